//! Carries the parts of an answer between replicas: each knows the proxies that push to it.
//!
//! Over the port of `peers`, and with its authentication: TLS with the control plane's certificate, and the token of a
//! live pod of the operator's own ServiceAccount. A replica that does not answer in time makes an answer partial, not an
//! error. `smidge_traffic_metrics::exchange` combines the parts.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::join_all;
use serde::Deserialize;
use smidge_traffic_metrics::{
    exchange::{self, Part, PartError},
    traffic::{Kind, Question},
};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::timeout,
};
use tracing::warn;

use super::{Metrics, Receiver};
use crate::{
    peers::{
        fetch::{FetchError, PeerClient},
        serve::{self, Replica},
    },
    publish::Published,
};

/// Path of the parts.
pub const PATH: &str = "/traffic";
/// Time limit of an answer of another replica.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of parts that are made at once for other replicas.
const AT_ONCE: usize = 4;

/// Errors of a part of another replica.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The replica could not be asked.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Its answer cannot be read.
    #[error(transparent)]
    Part(#[from] PartError),
    /// The time limit has passed.
    #[error("no answer within {ANSWER_TIMEOUT:?}")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

/// The other replicas.
pub struct Replicas {
    /// Client of them.
    pub client: Arc<PeerClient>,
    /// The last publication: it has their addresses.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// Name of this pod.
    pub name: String,
    /// Their port.
    pub port: u16,
}

/// Question in a query of a URL.
#[derive(Debug, Deserialize)]
struct Asked {
    kind: Kind,
    namespace: Option<String>,
    name: Option<String>,
    /// Seconds.
    window: u64,
}

/// State of the server of parts.
#[derive(Clone)]
struct Shared {
    replica: Replica,
    receiver: Arc<Receiver>,
    slots: Arc<Semaphore>,
}

/// Returns true if an object can have the names of a question; the others need no answer, and fit no URL.
pub fn is_answerable(question: &Question) -> bool {
    let is_name = |name: &String| {
        name.len() <= 253 && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it))
    };
    question.namespace.iter().chain(&question.name).all(is_name)
}

/// Returns path and query of a question.
fn path(question: &Question) -> String {
    let Question { kind, namespace, name, window } = question;
    let part = |key: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("&{key}={value}")).unwrap_or_default()
    };
    let (namespace, name) = (part("namespace", namespace), part("name", name));
    format!("{PATH}?kind={kind:?}&window={}{namespace}{name}", window.as_secs())
}

impl Replicas {
    /// Returns the parts of the other replicas that answer in time.
    pub async fn parts(&self, question: &Question, metrics: &Metrics) -> Vec<Part> {
        let published = self.published.borrow().clone();
        let all = published.map(|published| serve::replicas(&published, &self.name)).unwrap_or_default();
        let path = path(question);
        let others = all.into_iter().filter(|(name, _)| *name != self.name).map(|(name, ip)| {
            let (path, address) = (&path, SocketAddr::new(ip, self.port));
            async move {
                let part = timeout(ANSWER_TIMEOUT, self.part(address, path)).await;
                part.map_err(Missing::from).flatten().map_err(|error| (name, error))
            }
        });
        let mut parts = Vec::new();
        for answer in join_all(others).await {
            match answer {
                Ok(part) => parts.push(part),
                Err((replica, error)) => {
                    metrics.unanswered.inc();
                    warn!(replica, %error, "the traffic of a replica's proxies is missing in an answer");
                }
            }
        }
        parts
    }

    async fn part(&self, address: SocketAddr, path: &str) -> Result<Part, Missing> {
        let body = self.client.get(address, path, exchange::MAX_PART).await?;
        let decoded = spawn_blocking(move || exchange::decode(&body)).await;
        Ok(decoded.map_err(|error| FetchError::Body(error.into()))??)
    }
}

/// Builds the router of the parts, which has one path.
pub fn router(replica: Replica, receiver: Arc<Receiver>) -> Router {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    Router::new().route(PATH, get(answer)).with_state(Shared { replica, receiver, slots })
}

async fn answer(
    State(Shared { replica, receiver, slots }): State<Shared>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Response {
    // Authentication comes first: an unauthenticated peer must not take a slot, and learns nothing.
    if let Err(code) = replica.admit(&headers).await {
        return code.into_response();
    }
    let Ok(Query(Asked { kind, namespace, name, window })) = asked else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Ok(_slot) = slots.try_acquire() else { return StatusCode::TOO_MANY_REQUESTS.into_response() };
    let question = Question { kind, namespace, name, window: Duration::from_secs(window) };
    let encoded = spawn_blocking(move || exchange::encode(&receiver.part(&question))).await;
    match encoded {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Ok(Err(error)) => {
            warn!(%error, "failed to answer another replica");
            StatusCode::PAYLOAD_TOO_LARGE.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_reads_as_it_was_written() {
        let question = |namespace: Option<&str>, name: Option<&str>| Question {
            kind: Kind::ReplicationController,
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            window: Duration::from_secs(30),
        };
        for question in
            [question(None, None), question(Some("shop"), None), question(Some("shop"), Some("web-1.a"))]
        {
            assert!(is_answerable(&question));
            let uri = path(&question).parse().unwrap();
            let Query(Asked { kind, namespace, name, window }) = Query::try_from_uri(&uri).unwrap();
            assert_eq!(Question { kind, namespace, name, window: Duration::from_secs(window) }, question);
        }
        for name in ["a&kind=Pod", "a b", "a/b", "ä", &"a".repeat(254)] {
            assert!(!is_answerable(&question(None, Some(name))), "{name}");
        }
    }
}
