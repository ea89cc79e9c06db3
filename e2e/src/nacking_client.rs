//! Client in the place of a pod's proxy: sends an ACK for every response, but a NACK for policies while it is set to
//! refuse them.
//!
//! It sends the pod's own token, so the control plane treats it as the proxy; as its stream is the later one, it is the
//! one that counts.

use anyhow::Context as _;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    Cluster, Pod,
    ads::{self, Stream, Trust},
    bookstore::HTTP,
    token::{self, AUDIENCE},
};

/// Message of its NACKs.
pub const WORDS: &str = "Proto constraint validation failed: this client refuses on request";

/// The client. Its stream ends when it is dropped.
pub struct NackingClient {
    refuses: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl NackingClient {
    /// Opens a stream to `replica` in the place of the proxy of `pod`, a shop. Refuses nothing yet.
    pub async fn of(cluster: &Cluster, pod: &Pod, replica: &Pod) -> anyhow::Result<Self> {
        let channel = ads::connect(replica, &Trust::of(pod).await?).await?;
        let token = token::of(cluster, pod, AUDIENCE).await?;
        let mut stream =
            Stream::open(channel, Some(&token), &format!("{}.{}", pod.name, pod.namespace)).await?;
        stream.subscribe("listeners", &[]).await?;
        stream.subscribe("extensions", &[&format!("inbound/{HTTP}/http")]).await?;
        let responses = stream.drain().await?;
        anyhow::ensure!(!responses.is_empty(), "the control plane sends nothing to {}", pod.name);
        let (refuses, is_refusing) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                let response = stream.next().await?;
                let is_policy = response.type_url == ads::url("extensions")?;
                let last_error = (is_policy && *is_refusing.borrow()).then_some(WORDS);
                stream.answer(&response, last_error).await?;
            }
        });
        Ok(Self { refuses, task })
    }

    /// Starts or stops the refusal of policies.
    pub fn refuse(&self, refuses: bool) -> anyhow::Result<()> {
        anyhow::ensure!(!self.task.is_finished(), "the stream has ended");
        self.refuses.send(refuses).context("the stream has ended")
    }
}

impl Drop for NackingClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}
