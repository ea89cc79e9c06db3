//! Load on one Service while something happens: two clients in one pod, one that keeps its connections and one that does
//! not, each of which must have every request answered.
//!
//! Built on `Pod::keep_calling`; what happens is the test's own.

use std::{fmt, time::Duration};

use anyhow::Context as _;

use crate::{Pod, Running, report::Calls, until};

/// Time limit for the first successful call.
const REACHED: Duration = Duration::from_secs(20);
const KEPT: &[&str] = &["--concurrency=8", "--rate=150"];
const FRESH: &[&str] = &["--concurrency=4", "--rate=60", "--new-connections"];

/// Load that is under way.
pub struct Load {
    before: Outcome,
    kept: Running,
    fresh: Running,
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

impl Load {
    /// Starts 210 requests a second to `url`, after three seconds of the same for comparison.
    pub async fn start(client: &Pod, url: &str) -> anyhow::Result<Self> {
        until(&format!("{url} to be reached"), REACHED, async || {
            client.call(url, &["--count=20"]).await?.must_all_be(200)
        })
        .await?;
        let (kept, fresh) = ([KEPT, &["--duration=3"]].concat(), [FRESH, &["--duration=3"]].concat());
        let (kept, fresh) = tokio::try_join!(client.call(url, &kept), client.call(url, &fresh))?;
        let before = Outcome { kept, fresh };
        let (kept, fresh) =
            tokio::try_join!(client.keep_calling(url, KEPT), client.keep_calling(url, FRESH))?;
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
