//! Load on one Service while something happens: calls of clients that keep their connections and of clients that do
//! not, each of which must be answered. [`Load`] has one of either kind in one pod, and compares them with the time before.
//!
//! Built on `Pod::keep_calling`; what happens is the test's own.

use std::{fmt, time::Duration};

use anyhow::Context as _;

use crate::{Pod, Running, report::Calls, until};

/// Time limit for the first successful call.
const REACHED: Duration = Duration::from_secs(20);
const KEPT: &[&str] = &["--concurrency=8", "--rate=150"];
const FRESH: &[&str] = &["--concurrency=4", "--rate=60", "--new-connections"];

/// Calls of one client that are under way.
pub struct Stream {
    /// The client, as the beginning of a sentence about its calls.
    who: &'static str,
    calls: Running,
}

/// Load that is under way.
pub struct Load {
    before: Outcome,
    kept: Stream,
    fresh: Stream,
}

/// Calls of both clients.
pub struct Outcome {
    kept: Calls,
    fresh: Calls,
}

/// Outcome of a case, with that of the same calls before it.
pub struct Report {
    before: Outcome,
    during: Outcome,
}

/// Waits until a client reaches `url`.
async fn reach(who: &str, client: &Pod, url: &str) -> anyhow::Result<()> {
    until(&format!("{who} to reach {url}"), REACHED, async || {
        client.call(url, &["--count=20"]).await?.must_all_be(200)
    })
    .await
}

impl Stream {
    /// Starts 150 requests a second to `url` on connections that are kept, from a client whose proxy balances them. Without
    /// a proxy a server that ends closes them, and the client may be sending a request just then, mesh or not.
    pub async fn kept(who: &'static str, client: &Pod, url: &str) -> anyhow::Result<Self> {
        Ok(Self { who, calls: client.keep_calling(url, KEPT).await? })
    }

    /// Starts 60 requests a second to `url` on new connections, once the client reaches it.
    pub async fn fresh(who: &'static str, client: &Pod, url: &str) -> anyhow::Result<Self> {
        reach(who, client, url).await?;
        Ok(Self { who, calls: client.keep_calling(url, FRESH).await? })
    }

    /// Ends the calls.
    async fn calls(self) -> anyhow::Result<Calls> {
        self.calls.calls().await
    }

    /// Ends the calls, all of which must have been answered with 200 during the `step`.
    pub async fn end(self, step: &str) -> anyhow::Result<()> {
        let who = self.who;
        let calls = self.calls().await?;
        let worst = calls.latency_ms.get("max");
        println!("{step}: {who} made {} requests, {:?}, worst {worst:?} ms", calls.requests, calls.status);
        calls.must_all_be(200).with_context(|| format!("{step}: {who}"))
    }
}

impl Load {
    /// Starts 210 requests a second to `url`, after three seconds of the same for comparison.
    pub async fn start(client: &Pod, url: &str) -> anyhow::Result<Self> {
        reach("the client", client, url).await?;
        let (kept, fresh) = ([KEPT, &["--duration=3"]].concat(), [FRESH, &["--duration=3"]].concat());
        let (kept, fresh) = tokio::try_join!(client.call(url, &kept), client.call(url, &fresh))?;
        let before = Outcome { kept, fresh };
        let (kept, fresh) = tokio::try_join!(
            Stream::kept("the client, on kept connections,", client, url),
            Stream::fresh("the client, on new connections,", client, url)
        )?;
        Ok(Self { before, kept, fresh })
    }

    /// Ends the calls.
    pub async fn end(self) -> anyhow::Result<Report> {
        let (kept, fresh) = tokio::try_join!(self.kept.calls(), self.fresh.calls())?;
        Ok(Report { before: self.before, during: Outcome { kept, fresh } })
    }
}

impl Report {
    /// Fails unless every request was answered with 200.
    pub fn must_be_whole(&self) -> anyhow::Result<()> {
        self.during.kept.must_all_be(200).context("on kept connections")?;
        self.during.fresh.must_all_be(200).context("on new connections")
    }
}

impl fmt::Display for Report {
    /// Writes cells of a table: requests, failed, p99 before and during, worst; first on kept connections, then on new ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = [(&self.before.kept, &self.during.kept), (&self.before.fresh, &self.during.fresh)];
        for (before, during) in pairs {
            let answered = during.status.get(&200).copied().unwrap_or(0);
            let latency = |calls: &Calls, of: &str| calls.latency_ms.get(of).copied().unwrap_or_default();
            write!(
                f,
                "| {} | {} | {:.0} / {:.0} ms | {:.0} ms ",
                during.requests,
                during.requests - answered,
                latency(before, "p99"),
                latency(during, "p99"),
                latency(during, "max"),
            )?;
        }
        f.write_str("|")
    }
}
