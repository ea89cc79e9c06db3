//! The HTTPS server of the webhooks.
//!
//! Hands each review to the pure function that answers it, and bounds what an answer may cost. Whose objects come here is
//! the webhook configurations' business; whose certificate is served, the `ca`'s. Waits for nothing that the operator
//! reads: conversion must work before the operator's own lists can.

use std::{collections::BTreeSet, future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Json, Response},
    routing::post,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
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

use crate::{
    admission::{Current, neighbours},
    injector::Settings,
    inputs::Inputs,
    lower::injects_strictly,
    publish::World,
    tls,
};

pub mod ca_bundle;
pub mod conversion;
pub mod injection;
pub mod review;
pub mod validation;

use injection::Strictness;

/// An API server's object is at most 3 MiB, and a review may hold an old one beside it.
const BODY_BYTES: usize = 8 << 20;
/// How long a request may take in all, its body included. The API server gives up after 30 s at the most.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a verdict may take; less than the API server waits for it, so that its client hears why there is none.
const VERDICT: Duration = Duration::from_secs(2);
/// How many verdicts may be in the making at once: one object can be large enough to cost seconds.
const VERDICTS: usize = 4;
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
}

/// The paths of the webhooks: `POST /inject`, `/convert` and `/validate`.
pub fn router(views: Views) -> Router {
    Router::new()
        .route("/inject", post(inject))
        .route("/convert", post(convert))
        .route("/validate", post(validate))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn(bounded))
        .with_state(Shared { views, verdicts: Arc::new(Semaphore::new(VERDICTS)) })
}

async fn bounded(request: Request, next: Next) -> Response {
    let late = || (StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response();
    timeout(ANSWER, next.run(request)).await.unwrap_or_else(|_| late())
}

async fn inject(State(Shared { views, .. }): State<Shared>, body: Bytes) -> Response {
    let settings = views.injector.borrow().clone();
    respond(injection::answer(&body, &settings, views.strictness(), &views.injections))
}

async fn convert(body: Bytes) -> Response {
    respond(conversion::answer(&body))
}

/// A verdict that takes too long is none: the object is admitted, and its owner hears of it by its status.
async fn validate(State(Shared { views, verdicts }): State<Shared>, body: Bytes) -> Response {
    let question = body.clone();
    let verdict = async {
        let permit = verdicts.acquire_owned().await.ok()?;
        let judged = tokio::task::spawn_blocking(move || {
            let answer = validation::answer(&question, |namespaces| views.current(namespaces));
            drop(permit);
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
        Err(error) => {
            warn!(%error, "a review was not understood");
            (StatusCode::BAD_REQUEST, error.to_string()).into_response()
        }
    }
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
            Some(Ok(stream)) = arriving.recv() => start(&mut connections, stream, &router, &stopped),
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
                Some(Ok(stream)) = arriving.recv() => start(&mut connections, stream, &router, &stopped),
                else => break,
            }
        }
    };
    // What does not end in time ends with the set.
    let _ = timeout(GRACE, end).await;
    Ok(())
}

fn start(
    connections: &mut JoinSet<()>,
    stream: TlsStream<TcpStream>,
    router: &Router,
    stopped: &watch::Receiver<()>,
) {
    let peer = stream.get_ref().0.peer_addr().ok();
    let task = connection(stream, router.clone(), stopped.clone());
    connections.spawn(task.instrument(info_span!("webhook", peer = peer.map(display))));
}

async fn connection(stream: TlsStream<TcpStream>, router: Router, mut stopped: watch::Receiver<()>) {
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        // First, so that who has called already is answered.
        biased;
        ended = serving.as_mut() => ended,
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "the connection broke");
    }
}
