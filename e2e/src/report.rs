//! Runs `bookstore call` and `bookstore dial` in pods, and parses their reports.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

use crate::{Pod, Running};

/// Outcome of a number of requests.
#[derive(Debug, Clone, Deserialize)]
pub struct Calls {
    /// Number of requests sent.
    pub requests: u64,
    /// Number of connections opened for them.
    pub connections: u64,
    /// Time from the first request to the last answer, in seconds.
    pub seconds: f64,
    /// Number of answers by status.
    pub status: BTreeMap<u16, u64>,
    /// Number of answers by the version that sent them.
    pub served_by: BTreeMap<String, u64>,
    /// Number of requests without an answer, by kind of failure.
    pub failures: BTreeMap<String, u64>,
    /// First body of each status.
    pub samples: BTreeMap<u16, String>,
    /// Percentiles of the latency, in milliseconds.
    pub latency_ms: BTreeMap<String, f64>,
}

/// Outcome of a TCP connection.
#[derive(Debug, Clone, Deserialize)]
pub struct Dialled {
    /// End of the connection: `held`, `closed`, `reset`, `no-answer` or `no-connection`.
    pub end: String,
    /// Number of lines sent.
    pub asked: u64,
    /// Number of lines received.
    pub answered: u64,
    /// Last line received.
    pub last: String,
    /// Time from the first attempt to the end, in seconds.
    pub seconds: f64,
}

impl Calls {
    /// Returns the status, if all requests were answered with the same one.
    pub fn only_status(&self) -> Option<u16> {
        let mut all = self.status.iter();
        match (all.next(), all.next(), self.failures.is_empty()) {
            (Some((status, _)), None, true) => Some(*status),
            _ => None,
        }
    }

    /// Fails unless every single request was answered with `status`.
    pub fn must_all_be(&self, status: u16) -> anyhow::Result<()> {
        anyhow::ensure!(self.only_status() == Some(status), "not every answer was {status}: {self:?}");
        Ok(())
    }

    /// Returns the share of the answers that `version` sent, in per cent.
    #[expect(clippy::cast_precision_loss, reason = "requests are counted in thousands")]
    pub fn share(&self, version: &str) -> f64 {
        let answered: u64 = self.status.values().sum();
        let served = self.served_by.get(version).copied().unwrap_or(0);
        served as f64 * 100.0 / answered.max(1) as f64
    }
}

impl Pod {
    /// Runs `bookstore call` to its end.
    pub async fn call(&self, url: &str, options: &[&str]) -> anyhow::Result<Calls> {
        let mut command = vec!["bookstore", "call", "--output=json", "--url", url];
        command.extend(options);
        parse(&self.run(&command).await?)
    }

    /// Sends one request; returns its status, or the kind of failure.
    pub async fn status(&self, url: &str, options: &[&str]) -> anyhow::Result<Result<u16, String>> {
        let calls = self.call(url, options).await?;
        let failure = calls.failures.keys().next().cloned().unwrap_or_default();
        Ok(calls.status.keys().next().copied().ok_or(failure))
    }

    /// Runs `bookstore call` until `Running::stop`.
    pub async fn keep_calling(&self, url: &str, options: &[&str]) -> anyhow::Result<Running> {
        let mut command =
            vec!["bookstore", "call", "--output=json", "--until-line", "--announce", "--url", url];
        command.extend(options);
        self.start(&command).await
    }

    /// Runs `bookstore dial` to its end.
    pub async fn dial_store(&self, address: &str) -> anyhow::Result<Dialled> {
        parse(&self.run(&["bookstore", "dial", "--address", address]).await?)
    }

    /// Returns the name of the store that answers at `address`, if one does.
    pub async fn who(&self, address: &str) -> anyhow::Result<Option<String>> {
        let dialled: Dialled =
            parse(&self.run(&["bookstore", "dial", "--line=WHO", "--address", address]).await?)?;
        Ok((dialled.answered > 0).then_some(dialled.last))
    }

    /// Runs `bookstore dial` until `Running::stop`, or until the other side ends the connection.
    pub async fn keep_dialling(&self, address: &str) -> anyhow::Result<Running> {
        self.start(&["bookstore", "dial", "--until-line", "--announce", "--address", address]).await
    }
}

impl Running {
    /// Stops the calls, and returns their report.
    pub async fn calls(self) -> anyhow::Result<Calls> {
        parse(&self.stop().await?)
    }

    /// Stops the connection, and returns its report.
    pub async fn dialled(self) -> anyhow::Result<Dialled> {
        parse(&self.stop().await?)
    }
}

/// Parses the last line of a client's output.
pub fn parse<T: serde::de::DeserializeOwned>(output: &str) -> anyhow::Result<T> {
    let line = output.trim().lines().next_back().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("no report in {output:?}"))
}
