//! Serves to other replicas the acknowledgement counts of the proxies that are connected here.
//!
//! Impure. Started by `runtime`. An answer waits until it differs from what the client has, so a leader receives a
//! change at once without frequent polling. Answers only live pods of the operator's own ServiceAccount.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

use super::{PATH, encode};
use crate::{auth::TokenAuthenticator, publish::Published, status::programmed::AckCounts};

/// Time for which an answer waits for a change.
pub const POLL_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum number of concurrent requests; there is one leader, or two while one takes over from the other.
const AT_ONCE: usize = 16;

/// State of the server of counts.
#[derive(Clone)]
pub struct Replica {
    /// Authenticates the client.
    pub authenticator: Arc<TokenAuthenticator>,
    /// The counts.
    pub counts: watch::Receiver<AckCounts>,
    /// The last publication: it has the ServiceAccount of this pod.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of this pod.
    pub name: String,
}

#[derive(Clone)]
struct Shared {
    replica: Replica,
    slots: Arc<Semaphore>,
}

/// Builds the router, which has one path.
pub fn router(replica: Replica) -> Router {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    Router::new().route(PATH, get(answer)).with_state(Shared { replica, slots })
}

/// Returns the pods with the ServiceAccount of the pod `name`, that pod included; none if it is not known.
pub fn replicas(published: &Published, name: &str) -> Vec<(String, IpAddr)> {
    let Some((account, _)) = published.operator_pods.get(name) else { return Vec::new() };
    let same = published.operator_pods.iter().filter(|(_, (of, _))| of == account);
    same.map(|(name, (_, address))| (name.clone(), *address)).collect()
}

async fn answer(State(Shared { replica, slots }): State<Shared>, headers: HeaderMap) -> Response {
    // Authentication comes first: an unauthenticated peer must not take a slot from the leader.
    if let Err(code) = replica.admit(&headers).await {
        return code.into_response();
    }
    let Ok(_slot) = slots.try_acquire() else { return StatusCode::TOO_MANY_REQUESTS.into_response() };
    let held = headers.get(header::IF_NONE_MATCH).and_then(|held| held.to_str().ok());
    let mut counts = replica.counts;
    let until = Instant::now() + POLL_TIMEOUT;
    loop {
        let current = counts.borrow_and_update().clone();
        let (body, tag) = encode(&current);
        if held != Some(tag.as_str()) {
            let headers = [(header::ETAG, tag), (header::CONTENT_TYPE, "application/json".to_owned())];
            return (headers, body).into_response();
        }
        if !matches!(timeout_at(until, counts.changed()).await, Ok(Ok(()))) {
            return StatusCode::NOT_MODIFIED.into_response();
        }
    }
}

impl Replica {
    /// Accepts a request of another replica. The status code of a refusal is all that the client receives.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        if values.next().is_some() {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let subject = self.authenticator.replica(value).await.map_err(|reason| {
            info!(?reason, "unauthenticated peer request");
            StatusCode::UNAUTHORIZED
        })?;
        let published = self.published.borrow().clone().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        let (account, _) = published.operator_pods.get(&self.name).ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        if subject.namespace == self.namespace && subject.service_account == *account {
            return Ok(());
        }
        warn!(user = subject.user(), pod = subject.pod, "peer request from another ServiceAccount");
        Err(StatusCode::FORBIDDEN)
    }
}
