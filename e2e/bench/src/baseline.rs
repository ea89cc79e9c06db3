//! Measures the baseline (baseline): the same client with a server that only writes prepared bytes.
//!
//! Called by the scenarios after they have measured what the operator sends: the same number of messages, of the same
//! sizes, to the same number of proxies. Starts `baseline` as a process of its own, so that its CPU time is separate.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustls_pki_types::ServerName;
use tokio::sync::mpsc;

use crate::{
    baseline_server,
    figures::{Row, in_millis, millis},
    fleet::{Fleet, Target},
    process, tls,
    wire::Kind,
};

/// Time limit of each wait.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Process of the baseline server.
pub struct BaselineRun {
    child: Child,
    words: ChildStdin,
    /// Its output, line by line; read by a thread, as there may be none.
    answers: mpsc::UnboundedReceiver<String>,
    pub target: Target,
}

/// One change as the baseline server sends it.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// Number of messages, one to each connection in turn.
    pub messages: usize,
    /// Size of each message, in bytes.
    pub bytes: usize,
    /// Number of proxies that must have received it for the clock to stop.
    pub receivers: usize,
}

impl BaselineRun {
    /// Starts the server.
    pub async fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("baseline")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the baseline server")?;
        let words = child.stdin.take().context("no input")?;
        let mut answers = read_lines(child.stdout.take().context("no output")?)?;
        let port: u16 = line(&mut answers).await?.parse().context("no port")?;
        let certificate = line(&mut answers).await?.replace('|', "\n");
        let target = Target {
            addresses: tls::loopback(port),
            tls: Arc::new(tls::client(&[certificate])?),
            server_name: ServerName::try_from("baseline.bench").context("no name")?,
            script: Some(1),
            window: usize::MAX,
        };
        Ok(Self { child, words, answers, target })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sets the messages that each new connection receives: their number and their size in bytes.
    pub async fn script(&mut self, messages: usize, bytes: usize) -> anyhow::Result<()> {
        self.target.script = Some(messages);
        self.word("script", messages, bytes)?;
        self.written().await
    }

    fn word(&mut self, word: &str, count: usize, bytes: usize) -> anyhow::Result<()> {
        Ok(writeln!(self.words, "{word} {count} {bytes}")?)
    }

    async fn written(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(line(&mut self.answers).await? == "ok", "the baseline server has not understood");
        Ok(())
    }

    /// Adds to `row` the least cost of `changes` changes. The proxies must be connected.
    pub async fn measure(
        &mut self,
        fleet: &Fleet,
        row: &mut Row,
        traffic: Traffic,
        changes: usize,
    ) -> anyhow::Result<()> {
        let Traffic { messages, bytes, receivers } = traffic;
        let used = |baseline: &Self| (process::cpu(baseline.pid()), process::own_cpu("fleet"));
        let (mut last, mut before, mut warm) = (Vec::new(), used(self), 5);
        while last.len() < changes {
            if warm == 0 && last.is_empty() {
                before = used(self);
            }
            let answer = fleet.expect(Kind::Endpoints, baseline_server::NAME, receivers)?;
            let from = Instant::now();
            self.word("send", messages, bytes)?;
            let times = tokio::time::timeout(TIMEOUT, answer).await.context("a word did not arrive")??;
            self.written().await?;
            if warm > 0 {
                warm -= 1;
            } else {
                last.extend(times.last().map(|at| millis(from, *at)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let after = used(self);
        let each = |after: Duration, before| in_millis(after.saturating_sub(before)) / last.len() as f64;
        row.quantiles("baseline", &last);
        row.set("baseline_cpu_ms", each(after.0, before.0));
        row.set("baseline_client_cpu_ms", each(after.1, before.1));
        Ok(())
    }
}

impl Drop for BaselineRun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(output: ChildStdout) -> anyhow::Result<mpsc::UnboundedReceiver<String>> {
    let (sender, lines) = mpsc::unbounded_channel();
    let hear = move || {
        let mut output = BufReader::new(output).lines();
        while output.next().is_some_and(|line| line.is_ok_and(|line| sender.send(line).is_ok())) {}
    };
    std::thread::Builder::new().name("baseline commands".to_owned()).spawn(hear)?;
    Ok(lines)
}

async fn line(answers: &mut mpsc::UnboundedReceiver<String>) -> anyhow::Result<String> {
    let line = tokio::time::timeout(TIMEOUT, answers.recv()).await;
    line.context("the baseline server does not answer")?.context("the baseline server has ended")
}
