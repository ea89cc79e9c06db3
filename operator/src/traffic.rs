//! Receives the statistics of proxies, and answers what traffic objects had, from all replicas together.
//!
//! The I/O around `smidge_traffic_metrics`: `receiver` takes the pushes that `smidge_xds::server` admits, `directory`
//! looks objects up in what was published, `replicas` requests the parts of the other replicas, `exposition` shows
//! Prometheus what this replica received, `metrics` counts. The API of TrafficMetrics queries [`EmbeddedSource`], or
//! `prometheus` in its place. Does not know OTLP, and turns nothing into SMI's form.

pub mod directory;
pub mod exposition;
pub mod metrics;
pub mod prometheus;
pub mod receiver;
pub mod replicas;

use std::{sync::Arc, time::Duration};

pub use metrics::Metrics;
pub use receiver::Receiver;
use smidge_traffic_metrics::{
    answer,
    exchange::{self, Part},
    traffic::{Question, SourceError, Traffic, TrafficSource},
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use replicas::Replicas;

/// Maximum number of questions that are answered at once, each with as many parts as there are replicas.
const AT_ONCE: usize = 4;
/// Time limit of waiting for the others.
const WAIT: Duration = Duration::from_secs(5);

/// The store of all replicas. Clones share it.
#[derive(Clone)]
pub struct EmbeddedSource {
    receiver: Arc<Receiver>,
    replicas: Option<Arc<Replicas>>,
    slots: Arc<Semaphore>,
}

impl EmbeddedSource {
    /// Creates the source of this replica's `receiver`, and of the other replicas, where there can be any.
    pub fn new(receiver: Arc<Receiver>, replicas: Option<Replicas>) -> Self {
        Self { receiver, replicas: replicas.map(Arc::new), slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    async fn own(&self, question: &Question) -> Result<Part, SourceError> {
        let (receiver, question) = (Arc::clone(&self.receiver), question.clone());
        spawn_blocking(move || receiver.part(&question)).await.map_err(failed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "of the form that `map_err` needs")]
fn failed(error: tokio::task::JoinError) -> SourceError {
    SourceError::Unavailable(error.to_string())
}

impl TrafficSource for EmbeddedSource {
    /// Returns what this replica and those that answer in time know.
    async fn traffic(&self, question: &Question) -> Result<Traffic, SourceError> {
        // No object has such a name.
        if !replicas::is_answerable(question) {
            return Ok(Traffic::new());
        }
        let late = |_| SourceError::TimedOut {
            source_name: "the store".to_owned(),
            about: String::new(),
            limit: WAIT,
        };
        let slot = timeout(WAIT, self.slots.acquire()).await.map_err(late)?;
        let _slot = slot.map_err(|error| SourceError::Unavailable(error.to_string()))?;
        let others = async {
            match &self.replicas {
                Some(replicas) => replicas.parts(question, self.receiver.metrics()).await,
                None => Vec::new(),
            }
        };
        let (own, others) = tokio::join!(self.own(question), others);
        let parts = [own?].into_iter().chain(others).collect::<Vec<_>>();
        let (receiver, question) = (Arc::clone(&self.receiver), question.clone());
        let answer = move || answer::traffic(&question, exchange::combine(parts), receiver.directory());
        spawn_blocking(answer).await.map_err(failed)
    }
}
