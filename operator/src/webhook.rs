//! The HTTPS server of the webhooks.
//!
//! Hands each review to the pure function that answers it, and bounds what an answer may cost. Whose objects come here is
//! the webhook configurations' business; whose certificate is served, the `ca`'s. Waits for nothing that the operator
//! reads: conversion must work before the operator's own lists can.

use std::{collections::BTreeSet, future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
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
use smidge_xds::server::Turns;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tracing::{Instrument, debug, info_span, warn};

use self::body::Held;
use crate::{
    admission::{Current, neighbours},
    http,
    injector::Settings,
    inputs::Inputs,
    lower::injects_strictly,
    publish::World,
    shares::Shares,
    tls,
};

mod body;
pub mod ca_bundle;
pub mod conversion;
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
/// How many verdicts may be in the making at once: one object can be large enough to cost seconds.
const VERDICTS: usize = 4;
/// How many conversions may be under way at once.
const CONVERSIONS: usize = 1;
/// How long calls under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What the webhooks look at. Each call sees what there is at its moment.
#[derive(Clone)]
pub struct Views {
    /// What injected pods get.
    pub injector: watch::Receiver<Arc<Settings>>,
    /// The inputs, as far as they were read.
    pub world: watch::Receiver<World>,
    /// The kinds that were not read yet.
    pub awaited: watch::Receiver<BTreeSet<&'static str>>,
    /// What injection counts.
    pub injections: injection::Metrics,
}

#[derive(Clone)]
struct Shared {
    views: Views,
    verdicts: Arc<Semaphore>,
    conversions: Arc<Semaphore>,
    bodies: Shares,
}

/// The paths of the webhooks: `POST /inject`, `/convert` and `/validate`.
pub fn router(views: Views) -> Router {
    Router::new()
        .route("/inject", post(inject))
        .route("/convert", post(convert))
        .route("/validate", post(validate))
        .layer(middleware::from_fn(bounded))
        .with_state(Shared {
            views,
            verdicts: Arc::new(Semaphore::new(VERDICTS)),
            conversions: Arc::new(Semaphore::new(CONVERSIONS)),
            bodies: Shares::new(BODIES.0, BODIES.1),
        })
}

async fn bounded(request: Request, next: Next) -> Response {
    let late = || (StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response();
    timeout(ANSWER, next.run(request)).await.unwrap_or_else(|_| late())
}

async fn inject(State(Shared { views, .. }): State<Shared>, Held(body, share): Held) -> Response {
    let settings = views.injector.borrow().clone();
    let answer = respond(injection::answer(&body, &settings, views.strictness(), &views.injections));
    drop(share);
    answer
}

/// One at a time: parsed, an object is a hundred times its text.
async fn convert(State(Shared { conversions, .. }): State<Shared>, Held(body, share): Held) -> Response {
    let Ok(permit) = conversions.acquire_owned().await else { return busy() };
    let converted = tokio::task::spawn_blocking(move || {
        let answer = conversion::answer(&body);
        drop((permit, share));
        answer
    });
    match converted.await {
        Ok(Ok(answer)) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
        Ok(Err(error)) => not_understood(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The API server asks again, or does what the webhook's failure policy says.
fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], "too many reviews at once").into_response()
}

/// A verdict that takes too long is none: the object is admitted, and its owner hears of it by its status.
async fn validate(State(Shared { views, verdicts, .. }): State<Shared>, Held(body, share): Held) -> Response {
    let question = body.clone();
    let verdict = async {
        let permit = verdicts.acquire_owned().await.ok()?;
        let judged = tokio::task::spawn_blocking(move || {
            let answer = validation::answer(&question, |namespaces| views.current(namespaces));
            drop((permit, share));
            answer
        });
        judged.await.ok()
    };
    match timeout(VERDICT, verdict).await {
        Ok(Some(answer)) => respond(answer),
        _ => respond(validation::unjudged(&body)),
    }
}

fn respond(answer: Result<Value, review::Error>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => not_understood(&error),
    }
}

fn not_understood(error: &review::Error) -> Response {
    warn!(%error, "a review was not understood");
    (StatusCode::BAD_REQUEST, error.to_string()).into_response()
}

impl Views {
    /// What the mesh's settings say about pods that could leave it.
    fn strictness(&self) -> Strictness {
        if !self.awaited.borrow().is_empty() {
            return Strictness::Unknown;
        }
        let world = self.world.borrow();
        if world.values().any(injects_strictly) { Strictness::Refuse } else { Strictness::Warn }
    }

    /// A copy, so that nobody who changes the inputs has to wait for a verdict.
    fn current(&self, namespaces: &BTreeSet<String>) -> Current {
        let world = self.world.borrow();
        let inputs = world.values().next().map_or_else(Inputs::default, |all| neighbours(all, namespaces));
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
    // Turns of their own: who calls here must not wait behind a crowd of proxies.
    let mut accepting = Box::pin(tls::accept(listener, config, Turns::new(1), accepted));
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

/// Who has enough connections gets no more.
fn start(
    connections: &mut JoinSet<()>,
    stream: TlsStream<TcpStream>,
    places: &Shares,
    router: &Router,
    stopped: &watch::Receiver<()>,
) {
    let Ok(peer) = stream.get_ref().0.peer_addr() else { return };
    let Some(place) = places.take(peer.ip(), 1) else {
        debug!(%peer, "too many connections");
        return;
    };
    let (router, stopped) = (router.clone(), stopped.clone());
    let task = async move {
        http::serve(stream, peer.ip(), router, stopped).await;
        drop(place);
    };
    connections.spawn(task.instrument(info_span!("webhook", peer = display(peer))));
}
