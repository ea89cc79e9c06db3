//! Router of the webhooks: passes each review to the pure function that answers it, and bounds the cost of an answer.
//!
//! Served by `https`. The webhook configurations decide which objects are sent here. Waits for nothing that the
//! operator reads: conversion must work before the operator's own lists can.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    middleware::{self, Next},
    response::{IntoResponse, Json, Response},
    routing::post,
};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;
use tokio::{sync::watch, time::timeout};
use tracing::warn;

use self::{body::Held, callers::Callers};
use crate::{
    admission::{Current, referenced_objects},
    injector::Settings,
    inputs::{self, Clusters, Inputs},
    lower::injects_strictly,
    queue::Queue,
    shares::Shares,
};

mod body;
pub mod ca_bundle;
pub mod callers;
pub mod conversion;
mod cost;
pub mod injection;
pub mod metrics;
pub mod review;
pub mod validation;

use injection::Strictness;
use metrics::{Metrics, Outcome};

/// Maximum size of a body, in bytes: an object has at most 3 MiB, and a review may include the old object.
const BODY_BYTES: usize = 8 << 20;
/// Maximum size of all bodies that are held, and of those of one peer, in bytes. A review beyond that is refused at
/// once.
const BODIES: (usize, usize) = (64 << 20, 32 << 20);
/// Time limit of a request, its body included. The API server gives up after 30 s at the most.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit of a verdict; less than the API server waits for it, so that its client receives the reason for a missing
/// verdict.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for the namespace of a pod to become known: a file often has a namespace and pods for it.
const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of concurrent verdicts, in all and for one peer: an object can be large enough to cost seconds. With
/// two for a peer, a change of the mesh took 4 times as long on two cores (docs/design/013-operator-ports.md).
const VERDICTS: (usize, usize) = (4, 1);
/// Maximum number of concurrent injections, in all and for one peer.
const INJECTIONS: (usize, usize) = (4, 1);
/// Maximum number of concurrent conversions, in all and for one peer.
const CONVERSIONS: (usize, usize) = (2, 1);
/// Maximum memory of parsed reviews, in all and for one peer, in bytes: an object that an API server stores fits in
/// twice.
const PARSED: (usize, usize) = (336 << 20, 112 << 20);
/// Maximum memory of a conversion, as a multiple of its text: 8 MiB of text fit into the memory of one peer.
const CONVERTED: usize = 13;
/// Maximum size of answers that wait to be read, in all and for one peer, in bytes.
const UNREAD: (usize, usize) = (64 << 20, 32 << 20);

/// State that the webhooks read. Each call reads the present state.
#[derive(Clone)]
pub struct Views {
    /// Settings of injected pods.
    pub injector: watch::Receiver<Arc<Settings>>,
    /// The inputs, as far as they were read.
    pub clusters: watch::Receiver<Clusters>,
    /// Kinds that were not read yet.
    pub awaited: watch::Receiver<BTreeSet<&'static str>>,
    /// Metrics of injection.
    pub injections: injection::Metrics,
    /// Metrics of all requests.
    pub requests: Metrics,
}

#[derive(Clone)]
struct Shared {
    views: Views,
    verdicts: Queue,
    injections: Queue,
    conversions: Queue,
    bodies: Shares,
    rooms: Rooms,
}

/// Limits of memory, by use.
#[derive(Clone)]
struct Rooms {
    /// Reviews as they are parsed, of all kinds together.
    parsed: Shares,
    /// Answers that wait to be read.
    unread: Shares,
}

/// Builds the router of the webhooks: `POST /inject`, `/convert` and `/validate`. With `callers`, only these receive
/// answers with data of the mesh; the answer to a conversion has no data but that of its request.
pub fn router(views: Views, callers: Option<Callers>) -> Router {
    let mut reviews = Router::new().route("/inject", post(inject)).route("/validate", post(validate));
    if let Some(callers) = callers {
        reviews = reviews.route_layer(middleware::from_fn_with_state(callers, callers::known));
    }
    let measured = middleware::from_fn_with_state(views.requests.clone(), metrics::measured);
    let all = reviews.route("/convert", post(convert)).layer(middleware::from_fn(bounded)).layer(measured);
    all.with_state(Shared {
        views,
        verdicts: Queue::new(VERDICTS.0, VERDICTS.1),
        injections: Queue::new(INJECTIONS.0, INJECTIONS.1),
        conversions: Queue::new(CONVERSIONS.0, CONVERSIONS.1),
        bodies: Shares::new(BODIES.0, BODIES.1),
        rooms: Rooms { parsed: Shares::new(PARSED.0, PARSED.1), unread: Shares::new(UNREAD.0, UNREAD.1) },
    })
}

async fn bounded(request: Request, next: Next) -> Response {
    let late = || (StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response();
    timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| late())
}

async fn inject(State(Shared { views, injections, rooms, .. }): State<Shared>, held: Held) -> Response {
    metrics::describe(&held.body);
    let operation = review::operation(&held.body);
    let reckoned = cost::parsed(&held.body);
    if reckoned > PARSED.1 {
        return metrics::noted(too_large(), operation);
    }
    if let Some(namespace) = review::namespace(&held.body) {
        views.await_namespace(namespace).await;
    }
    let settings = views.injector.borrow().clone();
    let answer = move |body: &[u8]| {
        let find = |name: &str| views.namespace(name);
        respond(injection::answer(body, &settings, views.strictness(), &views.injections, find))
    };
    let answer = computed(&injections, &rooms, (held, reckoned), answer).await.unwrap_or_else(busy);
    metrics::noted(answer, operation)
}

async fn convert(State(Shared { conversions, rooms, .. }): State<Shared>, held: Held) -> Response {
    let answer = |body: &[u8]| match conversion::judged(body) {
        Ok((answer, is_converted)) => {
            let outcome = if is_converted { Outcome::Allowed } else { Outcome::Denied };
            metrics::with(([(CONTENT_TYPE, "application/json")], answer).into_response(), outcome)
        }
        Err(error) => not_understood(&error),
    };
    metrics::describe(&held.body);
    // Of objects only the outermost maps are parsed (`tests/convert_memory.rs`).
    let reckoned = held.body.len().saturating_mul(CONVERTED);
    let answer = computed(&conversions, &rooms, (held, reckoned), answer).await.unwrap_or_else(busy);
    metrics::noted(answer, Some("CONVERT".to_owned()))
}

/// Answers with a verdict. If that takes too long, the object is admitted, and its owner sees the findings in its
/// status.
async fn validate(State(Shared { views, verdicts, rooms, .. }): State<Shared>, held: Held) -> Response {
    metrics::describe(&held.body);
    let (uid, operation) = (review::uid(&held.body), review::operation(&held.body));
    let unjudged = || {
        let admitted =
            |uid: String| metrics::with(Json(validation::unjudged(&uid)).into_response(), Outcome::Unjudged);
        uid.map_or_else(busy, admitted)
    };
    let reckoned = cost::parsed(&held.body);
    if reckoned > PARSED.1 {
        return metrics::noted(unjudged(), operation);
    }
    let answer = move |body: &[u8]| respond(validation::answer(body, |namespaces| views.current(namespaces)));
    let verdict = timeout(VERDICT_TIMEOUT, computed(&verdicts, &rooms, (held, reckoned), answer)).await;
    metrics::noted(verdict.ok().flatten().unwrap_or_else(unjudged), operation)
}

/// Computes `answer` of a body on a blocking thread, where it delays no other task. Returns `None` if its turn does not
/// come, if there is no memory for it, or if its peer leaves too much unread.
async fn computed(
    queue: &Queue,
    rooms: &Rooms,
    (held, reckoned): (Held, usize),
    answer: impl FnOnce(&[u8]) -> Response + Send + 'static,
) -> Option<Response> {
    let peer = held.share.peer();
    let turn = queue.turn(peer).await?;
    let room = rooms.parsed.take(peer, reckoned)?;
    let computing = tokio::task::spawn_blocking(move || {
        let Held { body, share } = held;
        let answer = answer(&body);
        // In this order: the computation that takes the turn next must find the memory released.
        drop(body);
        drop((share, room, turn));
        answer
    });
    let answer = computing.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
    let (parts, body) = answer.into_parts();
    // The body is complete already.
    let text = to_bytes(body, usize::MAX).await.ok()?;
    let room = rooms.unread.take(peer, text.len())?;
    Some(Response::from_parts(parts, Body::from(room.hold(text))))
}

/// Answers that the server is busy: the API server retries, or applies the webhook's failure policy.
fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], "too many reviews at once").into_response()
}

fn too_large() -> Response {
    (StatusCode::PAYLOAD_TOO_LARGE, "the object has too many fields").into_response()
}

fn respond(answer: Result<Value, review::Error>) -> Response {
    match answer {
        Ok(answer) => {
            let outcome = Outcome::of_answer(&answer);
            metrics::with(Json(answer).into_response(), outcome)
        }
        Err(error) => not_understood(&error),
    }
}

fn not_understood(error: &review::Error) -> Response {
    warn!(%error, "failed to decode review");
    (StatusCode::BAD_REQUEST, error.to_string()).into_response()
}

impl Views {
    /// Returns the treatment of pods that could leave the mesh, by the mesh's settings.
    fn strictness(&self) -> Strictness {
        if !self.awaited.borrow().is_empty() {
            return Strictness::Unknown;
        }
        let clusters = self.clusters.borrow();
        if clusters.values().any(injects_strictly) { Strictness::Refuse } else { Strictness::Warn }
    }

    /// Waits until a namespace is known, or for a short time.
    async fn await_namespace(&self, name: String) {
        let key = (String::new(), name);
        let is_known = |clusters: &Clusters| own(clusters).is_some_and(|it| it.namespaces.contains_key(&key));
        let mut clusters = self.clusters.clone();
        // An error means that the operator is ending.
        let _ = timeout(NAMESPACE_TIMEOUT, clusters.wait_for(is_known)).await;
    }

    /// Returns a namespace of the own cluster, if it is known.
    fn namespace(&self, name: &str) -> Option<inputs::Shared<Namespace>> {
        let key = (String::new(), name.to_owned());
        own(&self.clusters.borrow())?.namespaces.get(&key).cloned()
    }

    /// Copies the referenced objects, so that changes of the inputs do not wait for a verdict.
    fn current(&self, namespaces: &BTreeSet<String>) -> Current {
        let clusters = self.clusters.borrow();
        let inputs = own(&clusters).map_or_else(Inputs::default, |all| referenced_objects(all, namespaces));
        Current { inputs, read: self.awaited.borrow().is_empty() }
    }
}

/// Returns the inputs of the cluster that this operator runs in.
fn own(clusters: &Clusters) -> Option<&Inputs> {
    clusters.values().next()
}
