//! Answers what traffic objects had from Prometheus, which has read the operator's metrics.
//!
//! The I/O around `smidge_traffic_metrics::promql`, which writes the queries, and `samples`, which reads the answers.
//! Started by `runtime` where `--prometheus-url` is set; the API of TrafficMetrics queries [`PrometheusSource`]. `client` sends
//! one query. An error of one query is an error of the whole question: figures that lack a part would be wrong rates.

mod client;
pub mod url;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use smidge_traffic_metrics::{
    promql::{self, Query},
    samples::Reading,
    traffic::{Question, SourceError, Traffic, TrafficSource},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tracing::warn;

use super::{Receiver, replicas::is_answerable};
use client::{Client, QueryError};
use url::PrometheusUrl;

/// Time limit of a question, with all its queries.
pub const QUESTION_TIMEOUT: Duration = Duration::from_secs(8);
/// Maximum number of queries that are being answered, with a body each.
pub const AT_ONCE: usize = 4;
/// Maximum number of queries of one question among them, so that another one has a part as well.
const OF_QUESTION: usize = 3;
/// Name in messages.
const NAME: &str = "Prometheus";

/// Settings of the source.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address of the API.
    pub url: PrometheusUrl,
    /// File with the bearer token, which is read for each question.
    pub token: Option<PathBuf>,
    /// File with the certificates of the authorities by which a server with https is verified, read for each question.
    pub ca: Option<PathBuf>,
    /// True if the operator shows the metrics of pods.
    pub pods: bool,
    /// Name of this cluster.
    pub cluster: String,
}

/// Answer to a query, and its place among those that are being answered.
struct Answer {
    query: Query,
    body: Vec<u8>,
    slot: OwnedSemaphorePermit,
}

/// Traffic as Prometheus has it. Clones share the limit of queries.
#[derive(Clone)]
pub struct PrometheusSource {
    settings: Arc<Settings>,
    /// Has the directory: the nodes and ReplicaSets of pods, and TrafficSplits.
    receiver: Arc<Receiver>,
    slots: Arc<Semaphore>,
}

impl PrometheusSource {
    /// Creates the source. `receiver` looks up the objects of pods.
    pub fn new(settings: Settings, receiver: Arc<Receiver>) -> Self {
        Self { settings: Arc::new(settings), receiver, slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Returns the words for a query in errors.
    fn about(&self, purpose: &str) -> String {
        format!(" at {} ({purpose})", self.settings.url.authority())
    }

    /// Returns the answer to a query.
    async fn fetch(
        &self,
        client: &Client<'_>,
        query: Query,
        deadline: Instant,
    ) -> Result<Answer, SourceError> {
        let about = || self.about(query.purpose);
        let fetched = timeout_at(deadline, async {
            let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| QueryError::Stopped)?;
            Ok((client.query(&query.text, QUESTION_TIMEOUT).await?, slot))
        });
        match fetched.await {
            Ok(Ok((body, slot))) => Ok(Answer { query, body, slot }),
            Ok(Err(error)) => Err(failed(&error, about())),
            Err(_) => Err(late(about())),
        }
    }

    /// Reads an answer, on a thread that may block: it can be large.
    async fn read(
        &self,
        mut reading: Reading,
        Answer { query, body, slot }: Answer,
        client: &Client<'_>,
    ) -> Result<Reading, SourceError> {
        let (receiver, purpose) = (Arc::clone(&self.receiver), query.purpose);
        let invalid = |reason| SourceError::Invalid {
            source_name: NAME.to_owned(),
            about: self.about(purpose),
            reason,
        };
        let reader = spawn_blocking(move || {
            let _slot = slot;
            let warnings = reading.read(&query, &body, receiver.directory());
            (warnings.map(|warnings| (reading, warnings)), body)
        });
        let (read, body) = reader.await.map_err(|error| SourceError::Unavailable(error.to_string()))?;
        let (reading, warnings) =
            read.map_err(|error| invalid(client.without_token(&body, error.to_string())))?;
        for warning in warnings {
            let warning = client.without_token(&body, warning);
            warn!(host = self.settings.url.authority(), purpose, warning, "Prometheus warns of an answer");
        }
        Ok(reading)
    }
}

fn late(about: String) -> SourceError {
    SourceError::TimedOut { source_name: NAME.to_owned(), about, limit: QUESTION_TIMEOUT }
}

fn failed(error: &QueryError, about: String) -> SourceError {
    SourceError::Failed { source_name: NAME.to_owned(), about, reason: error.to_string() }
}

impl TrafficSource for PrometheusSource {
    /// Returns what Prometheus has of all replicas that it scrapes.
    async fn traffic(&self, question: &Question) -> Result<Traffic, SourceError> {
        // No object has such a name.
        if !is_answerable(question) {
            return Ok(Traffic::new());
        }
        let deadline = Instant::now() + QUESTION_TIMEOUT;
        let queries = promql::queries(question, self.receiver.directory(), self.settings.pods)?;
        let client =
            Client::open(&self.settings).await.map_err(|error| failed(&error, self.about("credentials")))?;
        let mut reading =
            Reading::new(question.clone(), self.receiver.directory(), self.settings.cluster.clone());
        let fetches = queries.into_iter().map(|query| self.fetch(&client, query, deadline));
        let mut answers = stream::iter(fetches).buffer_unordered(OF_QUESTION);
        while let Some(answer) = answers.next().await {
            let answer = answer?;
            let about = self.about(answer.query.purpose);
            reading = timeout_at(deadline, self.read(reading, answer, &client))
                .await
                .map_err(|_| late(about))??;
        }
        drop(answers);
        Ok(reading.traffic())
    }
}
