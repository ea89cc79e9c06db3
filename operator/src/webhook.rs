//! The HTTPS server of the webhooks.
//!
//! Hands each review to the pure function that answers it, and bounds what an answer may cost. Whose objects come here is
//! the webhook configurations' business; whose certificate is served, the `ca`'s. Waits for nothing that the operator
//! reads: conversion must work before the operator's own lists can.

use std::{collections::BTreeSet, future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
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
use serde_json::Value;
use smidge_xds::server::ComputeLimiter;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tracing::{info_span, warn};

use self::{body::Held, callers::Callers};
use crate::{
    admission::{Current, referenced_objects},
    http,
    injector::Settings,
    inputs::{Clusters, Inputs},
    lower::injects_strictly,
    queue::Queue,
    shares::Shares,
    tls,
};

mod body;
pub mod ca_bundle;
pub mod callers;
pub mod conversion;
mod cost;
pub mod injection;
pub mod review;
pub mod validation;

use injection::Strictness;

/// An API server's object is at most 3 MiB, and a review may hold an old one beside it.
const BODY_BYTES: usize = 8 << 20;
/// Bodies that are held at once, in bytes, and how many of one peer. An API server whose review finds no room hears so at once.
const BODIES: (usize, usize) = (64 << 20, 32 << 20);
/// How long a request may take in all, its body included. The API server gives up after 30 s at the most.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a verdict may take; less than the API server waits for it, so that its client hears why there is none.
const VERDICT: Duration = Duration::from_secs(2);
/// How many verdicts may be computed at once, and how many of them for one peer: an object can be large enough to cost
/// seconds. With two of a peer, a change of the mesh took 4 times as long on two cores (docs/design/013-operator-ports.md).
const VERDICTS: (usize, usize) = (4, 1);
/// The same of pods that are injected.
const INJECTIONS: (usize, usize) = (4, 1);
/// The same of conversions.
const CONVERSIONS: (usize, usize) = (2, 1);
/// What reviews may take of memory once they are parsed, and those of one peer: what an API server stores has room, twice.
const PARSED: (usize, usize) = (336 << 20, 112 << 20);
/// What a conversion takes of memory at the most, in times its text: 8 MiB of it fit into a peer's room.
const CONVERTED: usize = 13;
/// Handshakes that may be under way of one address: an API server opens a connection for each call of a burst.
const HANDSHAKES: usize = 256;
/// Answers that wait to be read, in bytes, and how many of one peer.
const UNREAD: (usize, usize) = (64 << 20, 32 << 20);
/// How long calls under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What the webhooks look at. Each call sees what there is at its moment.
#[derive(Clone)]
pub struct Views {
    /// What injected pods get.
    pub injector: watch::Receiver<Arc<Settings>>,
    /// The inputs, as far as they were read.
    pub clusters: watch::Receiver<Clusters>,
    /// The kinds that were not read yet.
    pub awaited: watch::Receiver<BTreeSet<&'static str>>,
    /// What injection counts.
    pub injections: injection::Metrics,
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

/// Room in memory, by what it is for.
#[derive(Clone)]
struct Rooms {
    /// Reviews as they are parsed, of all kinds together.
    parsed: Shares,
    /// Answers that wait to be read.
    unread: Shares,
}

/// The paths of the webhooks: `POST /inject`, `/convert` and `/validate`. With `callers`, only these hear what an answer tells
/// of the mesh; a conversion tells nothing but what it was asked.
pub fn router(views: Views, callers: Option<Callers>) -> Router {
    let mut reviews = Router::new().route("/inject", post(inject)).route("/validate", post(validate));
    if let Some(callers) = callers {
        reviews = reviews.route_layer(middleware::from_fn_with_state(callers, callers::known));
    }
    reviews.route("/convert", post(convert)).layer(middleware::from_fn(bounded)).with_state(Shared {
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
    timeout(ANSWER, next.run(request)).await.unwrap_or_else(|_| late())
}

async fn inject(State(Shared { views, injections, rooms, .. }): State<Shared>, held: Held) -> Response {
    let reckoned = cost::parsed(&held.body);
    if reckoned > PARSED.1 {
        return too_large();
    }
    let settings = views.injector.borrow().clone();
    let answer =
        move |body: &[u8]| respond(injection::answer(body, &settings, views.strictness(), &views.injections));
    computed(&injections, &rooms, (held, reckoned), answer).await.unwrap_or_else(busy)
}

async fn convert(State(Shared { conversions, rooms, .. }): State<Shared>, held: Held) -> Response {
    let answer = |body: &[u8]| match conversion::answer(body) {
        Ok(answer) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(error) => not_understood(&error),
    };
    // Of objects only the outermost maps are parsed (`tests/convert_memory.rs`).
    let reckoned = held.body.len().saturating_mul(CONVERTED);
    computed(&conversions, &rooms, (held, reckoned), answer).await.unwrap_or_else(busy)
}

/// A verdict that takes too long is none: the object is admitted, and its owner hears of it by its status.
async fn validate(State(Shared { views, verdicts, rooms, .. }): State<Shared>, held: Held) -> Response {
    let uid = review::uid(&held.body);
    let unjudged = || uid.map_or_else(busy, |uid| Json(validation::unjudged(&uid)).into_response());
    let reckoned = cost::parsed(&held.body);
    if reckoned > PARSED.1 {
        return unjudged();
    }
    let answer = move |body: &[u8]| respond(validation::answer(body, |namespaces| views.current(namespaces)));
    match timeout(VERDICT, computed(&verdicts, &rooms, (held, reckoned), answer)).await {
        Ok(Some(answer)) => answer,
        _ => unjudged(),
    }
}

/// What `answer` makes of a body, computed where it holds up nobody. None if its turn does not come, if there is no room for it,
/// or if its peer leaves too much unread.
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
        // In this order: whoever takes the place must find the room.
        drop(body);
        drop((share, room, turn));
        answer
    });
    let answer = computing.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
    let (parts, body) = answer.into_parts();
    // It is whole already.
    let text = to_bytes(body, usize::MAX).await.ok()?;
    let room = rooms.unread.take(peer, text.len())?;
    Some(Response::from_parts(parts, Body::from(room.hold(text))))
}

/// The API server asks again, or does what the webhook's failure policy says.
fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], "too many reviews at once").into_response()
}

fn too_large() -> Response {
    (StatusCode::PAYLOAD_TOO_LARGE, "the object has too many fields").into_response()
}

fn respond(answer: Result<Value, review::Error>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => not_understood(&error),
    }
}

fn not_understood(error: &review::Error) -> Response {
    warn!(%error, "failed to decode review");
    (StatusCode::BAD_REQUEST, error.to_string()).into_response()
}

impl Views {
    /// What the mesh's settings say about pods that could leave it.
    fn strictness(&self) -> Strictness {
        if !self.awaited.borrow().is_empty() {
            return Strictness::Unknown;
        }
        let clusters = self.clusters.borrow();
        if clusters.values().any(injects_strictly) { Strictness::Refuse } else { Strictness::Warn }
    }

    /// A copy, so that nobody who changes the inputs has to wait for a verdict.
    fn current(&self, namespaces: &BTreeSet<String>) -> Current {
        let clusters = self.clusters.borrow();
        let inputs =
            clusters.values().next().map_or_else(Inputs::default, |all| referenced_objects(all, namespaces));
        Current { inputs, read: self.awaited.borrow().is_empty() }
    }
}

/// Serves `router` over TLS until `shutdown` is done, and then lets calls under way end.
pub async fn serve(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stop, stopped) = watch::channel(());
    let places = Shares::new(http::CONNECTIONS.0, http::CONNECTIONS.1);
    let (accepted, mut arriving) = mpsc::channel(1);
    // A limiter of their own: API servers must not wait behind a crowd of proxies.
    let mut accepting = Box::pin(tls::accept(listener, config, ComputeLimiter::new(1), HANDSHAKES, accepted));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = &mut accepting => break,
            Some(_) = connections.join_next() => {}
            Some(Ok(stream)) = arriving.recv() => start(&mut connections, stream, &places, &router, &stopped),
        }
    }
    // Others find the port closed and go to another replica.
    drop(accepting);
    drop(stop);
    let end = async {
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                // Its handshake was under way.
                Some(Ok(stream)) = arriving.recv() => start(&mut connections, stream, &places, &router, &stopped),
                else => break,
            }
        }
    };
    // What does not end in time ends with the set.
    let _ = timeout(GRACE, end).await;
    Ok(())
}

/// Serves a connection, if its peer has a place left.
fn start(
    connections: &mut JoinSet<()>,
    stream: TlsStream<TcpStream>,
    places: &Shares,
    router: &Router,
    stopped: &watch::Receiver<()>,
) {
    let Ok(peer) = stream.get_ref().0.peer_addr() else { return };
    let span = info_span!("webhook", peer = display(peer));
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    match chain.first().map(callers::Shown::of) {
        None => http::start(connections, places, (stream, peer), (router, stopped), span),
        Some(shown) => {
            let router = router.clone().layer(Extension(shown));
            http::start(connections, places, (stream, peer), (&router, stopped), span);
        }
    }
}
