//! Tells other replicas what the proxies that are connected here have acknowledged.
//!
//! Started by `runtime`. An answer waits until it differs from what the asker has, so a leader hears of a change at
//! once and nobody polls. Tells nothing to anybody but living pods of the operator's own ServiceAccount.

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

/// How long an answer waits for something new.
pub const HOLD: Duration = Duration::from_secs(20);
/// Questions at once; there is one leader, and another one before it is gone.
const AT_ONCE: usize = 16;

/// What it takes to answer.
#[derive(Clone)]
pub struct Replica {
    /// Judges who asks.
    pub authenticator: Arc<TokenAuthenticator>,
    /// The counts.
    pub tallies: watch::Receiver<AckCounts>,
    /// Knows the ServiceAccount of this pod.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// The namespace of the operator.
    pub namespace: String,
    /// The name of this pod.
    pub name: String,
}

#[derive(Clone)]
struct Shared {
    replica: Replica,
    slots: Arc<Semaphore>,
}

/// The one path that there is.
pub fn router(replica: Replica) -> Router {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    Router::new().route(PATH, get(answer)).with_state(Shared { replica, slots })
}

/// The pods of the operator, this one among them or not.
pub fn replicas(published: &Published, name: &str) -> Vec<(String, IpAddr)> {
    let Some((account, _)) = published.neighbours.get(name) else { return Vec::new() };
    let same = published.neighbours.iter().filter(|(_, (of, _))| of == account);
    same.map(|(name, (_, address))| (name.clone(), *address)).collect()
}

async fn answer(State(Shared { replica, slots }): State<Shared>, headers: HeaderMap) -> Response {
    // First who asks: a stranger's question must not take a place from the leader's.
    if let Err(code) = replica.admit(&headers).await {
        return code.into_response();
    }
    let Ok(_slot) = slots.try_acquire() else { return StatusCode::TOO_MANY_REQUESTS.into_response() };
    let held = headers.get(header::IF_NONE_MATCH).and_then(|held| held.to_str().ok());
    let mut tallies = replica.tallies;
    let until = Instant::now() + HOLD;
    loop {
        let current = tallies.borrow_and_update().clone();
        let (body, tag) = encode(&current);
        if held != Some(tag.as_str()) {
            let headers = [(header::ETAG, tag), (header::CONTENT_TYPE, "application/json".to_owned())];
            return (headers, body).into_response();
        }
        if !matches!(timeout_at(until, tallies.changed()).await, Ok(Ok(()))) {
            return StatusCode::NOT_MODIFIED.into_response();
        }
    }
}

impl Replica {
    /// Whether who asks is one of us. Learns no reason if not.
    async fn admit(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
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
        let (account, _) = published.neighbours.get(&self.name).ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        if subject.namespace == self.namespace && subject.service_account == *account {
            return Ok(());
        }
        warn!(user = subject.user(), pod = subject.pod, "peer request from another ServiceAccount");
        Err(StatusCode::FORBIDDEN)
    }
}
