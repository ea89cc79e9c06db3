//! What `bookstore call` and `bookstore dial` report, and how tests ask for it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

use crate::{Pod, Running};

/// What came back of a number of requests.
#[derive(Debug, Clone, Deserialize)]
pub struct Calls {
    /// Requests sent.
    pub requests: u64,
    /// Connections opened for them.
    pub connections: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Answers by status.
    pub status: BTreeMap<u16, u64>,
    /// Answers by the version that gave them.
    pub served_by: BTreeMap<String, u64>,
    /// Requests without an answer, by kind.
    pub failures: BTreeMap<String, u64>,
    /// The first body of each status.
    pub samples: BTreeMap<u16, String>,
    /// Percentiles.
    pub latency_ms: BTreeMap<String, f64>,
}

/// How a TCP connection ended.
#[derive(Debug, Clone, Deserialize)]
pub struct Dialled {
    /// `held`, `closed`, `reset`, `no-answer` or `no-connection`.
    pub end: String,
    /// Questions asked.
    pub asked: u64,
    /// Answers that came.
    pub answered: u64,
    /// The last answer.
    pub last: String,
    /// From the first attempt to the end.
    pub seconds: f64,
}

impl Calls {
    /// The status, if all requests were answered with one and the same.
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

    /// The part of the answers that `version` gave, in per cent.
    #[expect(clippy::cast_precision_loss, reason = "requests are counted in thousands")]
    pub fn share(&self, version: &str) -> f64 {
        let answered: u64 = self.status.values().sum();
        let served = self.served_by.get(version).copied().unwrap_or(0);
        served as f64 * 100.0 / answered.max(1) as f64
    }
}

impl Pod {
    /// `bookstore call` to its end.
    pub async fn call(&self, url: &str, options: &[&str]) -> anyhow::Result<Calls> {
        let mut command = vec!["bookstore", "call", "--output=json", "--url", url];
        command.extend(options);
        parse(&self.run(&command).await?)
    }

    /// One request; its status, or the kind of failure.
    pub async fn status(&self, url: &str, options: &[&str]) -> anyhow::Result<Result<u16, String>> {
        let calls = self.call(url, options).await?;
        let failure = calls.failures.keys().next().cloned().unwrap_or_default();
        Ok(calls.status.keys().next().copied().ok_or(failure))
    }

    /// `bookstore call` until `Running::stop`.
    pub async fn keep_calling(&self, url: &str, options: &[&str]) -> anyhow::Result<Running> {
        let mut command =
            vec!["bookstore", "call", "--output=json", "--until-line", "--announce", "--url", url];
        command.extend(options);
        self.start(&command).await
    }

    /// `bookstore dial` to its end.
    pub async fn dial_store(&self, address: &str) -> anyhow::Result<Dialled> {
        parse(&self.run(&["bookstore", "dial", "--address", address]).await?)
    }

    /// The name of the store that answers at `address`, if one does.
    pub async fn who(&self, address: &str) -> anyhow::Result<Option<String>> {
        let dialled: Dialled =
            parse(&self.run(&["bookstore", "dial", "--line=WHO", "--address", address]).await?)?;
        Ok((dialled.answered > 0).then_some(dialled.last))
    }

    /// `bookstore dial` until `Running::stop`, or until the other side ends the connection.
    pub async fn keep_dialling(&self, address: &str) -> anyhow::Result<Running> {
        self.start(&["bookstore", "dial", "--until-line", "--announce", "--address", address]).await
    }
}

impl Running {
    /// Stops the calls.
    pub async fn calls(self) -> anyhow::Result<Calls> {
        parse(&self.stop().await?)
    }

    /// Lets go of the connection.
    pub async fn dialled(self) -> anyhow::Result<Dialled> {
        parse(&self.stop().await?)
    }
}

/// The last line of what a client wrote.
pub fn parse<T: serde::de::DeserializeOwned>(output: &str) -> anyhow::Result<T> {
    let line = output.trim().lines().next_back().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("no report in {output:?}"))
}
