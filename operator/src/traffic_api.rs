//! Serves the aggregated API `metrics.smi-spec.io`: authenticates the API server, authorizes its user, and answers with
//! the traffic of objects.
//!
//! Served by `https`; started by `runtime`, which passes the source of figures. The crate `smidge_traffic_metrics` reads
//! requests and writes answers; this module does the I/O between them, and bounds its cost. Does not count traffic.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse as _, Response},
};
use kube::Client;
use rustls_pki_types::UnixTime;
use smidge_traffic_metrics::{
    api::{
        accept,
        access::Access,
        answer::{self, Part},
        discovery, openapi,
        request::{self, Figures},
        status::Status,
        timestamp::Timestamp,
    },
    traffic::{Question, SourceError, Traffic, TrafficSource},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch as channel},
    time::timeout,
};
use tracing::{Instrument as _, Span, field::Empty, info_span, warn};

use crate::{
    clock::Clock,
    https::ClientChain,
    telemetry::{self, TARGET},
};

mod authorize;
pub mod configuration;
pub mod front_proxy;
pub mod handshake;
mod objects;
mod policies;
mod stored;
mod watch;

use authorize::Authorizer;
use front_proxy::{Trusted, User};
use objects::Objects;
use policies::Policies;
use watch::Watches;

/// Time limit of a request, up to the first byte of its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit of the source.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of answers that are computed at once.
const ANSWERS: usize = 16;
/// Time limit of the wait for a place among them.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// Message of an error whose reason is for the log alone.
const UNREADABLE: &str = "the traffic could not be read; try again";

/// Interval between the states that a watch compares, in a cluster.
pub const WATCH_PERIOD: Duration = Duration::from_secs(10);

/// Parts of the server that its creator has.
pub struct Parts<S> {
    /// Source of the figures.
    pub source: S,
    /// Client of the API server, for objects and reviews.
    pub client: Client,
    /// The clock.
    pub clock: Clock,
    /// The front proxies that are trusted, kept by `configuration`.
    pub trusted: channel::Receiver<Arc<Trusted>>,
    /// Interval between the states that a watch compares.
    pub watch_period: Duration,
}

struct Shared<S> {
    source: S,
    watch_period: Duration,
    clock: Clock,
    trusted: channel::Receiver<Arc<Trusted>>,
    authorizer: Authorizer,
    objects: Objects,
    policies: Policies,
    answers: Semaphore,
    writes: Semaphore,
    watches: Watches,
}

/// Builds the router of the API. Every path needs the client certificate of the API server.
pub fn router<S: TrafficSource + 'static>(parts: Parts<S>) -> Router {
    let Parts { source, client, clock, trusted, watch_period } = parts;
    let shared = Shared {
        source,
        watch_period,
        clock,
        trusted,
        authorizer: Authorizer::new(client.clone()),
        objects: Objects::new(client.clone()),
        policies: Policies::new(client),
        answers: Semaphore::new(ANSWERS),
        writes: Semaphore::new(stored::WRITES),
        watches: Watches::default(),
    };
    Router::new().fallback(respond::<S>).with_state(Arc::new(shared))
}

async fn respond<S: TrafficSource + 'static>(
    State(shared): State<Arc<Shared<S>>>,
    request: Request,
) -> Response {
    // The body is read only of those who may write.
    let (parts, body) = request.into_parts();
    let span = span(&parts);
    let answering = timeout(REQUEST_TIMEOUT, Shared::answer(&shared, &parts, body)).instrument(span.clone());
    let answer = answering.await.unwrap_or_else(|_| Err(Status::timeout()));
    let response = answer.unwrap_or_else(|status| refuse(&status));
    span.record("http.response.status_code", i64::from(response.status().as_u16()));
    if response.status().is_server_error() {
        span.record("otel.status_code", "error");
    }
    response
}

/// Makes the span of a request. `describe` has the rest of its attributes.
fn span(parts: &axum::http::request::Parts) -> Span {
    let span = info_span!(
        target: TARGET,
        parent: None,
        "traffic metrics",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = parts.method.as_str(),
        http.response.status_code = Empty,
        smidge.verb = Empty,
        smidge.resource = Empty,
        smidge.subresource = Empty,
        k8s.object.name = Empty,
        k8s.namespace.name = Empty,
    );
    telemetry::continue_trace(&span, &parts.headers);
    span
}

/// Notes on the span of the request what is asked for.
fn describe(access: &Access<'_>) {
    if !telemetry::is_traced() {
        return;
    }
    let span = Span::current();
    let Access { version: _, plural, subresource, verb, namespace, name } = access;
    telemetry::rename(&span, format!("{verb} {plural}"));
    span.record("smidge.verb", verb);
    span.record("smidge.resource", plural);
    let texts = [
        ("smidge.subresource", Some(*subresource)),
        ("k8s.object.name", *name),
        ("k8s.namespace.name", *namespace),
    ];
    for (attribute, text) in texts {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            span.record(attribute, telemetry::value(text));
        }
    }
}

/// Returns the media types that the client accepts.
fn accepted(parts: &axum::http::request::Parts) -> String {
    let values = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

/// Writes an error.
fn refuse(status: &Status) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (code, json(status.json())).into_response();
    if let Some(seconds) = status.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Returns the answer for an error of the source, with as much of it as users may read.
fn of_source(error: &SourceError) -> Status {
    match (error, error.for_users()) {
        (SourceError::Unsupported(text), _) => Status::not_implemented(text),
        (_, Some(reason)) => Status::unavailable(format!("the traffic could not be read: {reason}")),
        (_, None) => Status::unavailable(UNREADABLE),
    }
}

fn json(text: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

impl<S: TrafficSource + 'static> Shared<S> {
    async fn answer(
        shared: &Arc<Self>,
        parts: &axum::http::request::Parts,
        body: Body,
    ) -> Result<Response, Status> {
        let user = shared.authenticate(parts)?;
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        let document = match request::parse(parts.method.as_str(), path, query)? {
            request::Request::Figures(figures) => {
                describe(&figures.access());
                shared.authorizer.authorize(&user, &figures.access()).await?;
                return Self::figures(shared, figures, parts, &user).await;
            }
            request::Request::Stored(stored) => {
                describe(&stored.access());
                let call = stored::Call { stored, user: &user, headers: &parts.headers };
                return shared.stored(&call, &accepted(parts), body).await;
            }
            // The API server reads these for its own documents, under a name without rights.
            request::Request::Group => discovery::group(),
            request::Request::Resources(version) => discovery::resources(version),
            request::Request::OpenApi2 => openapi::v2(),
            request::Request::OpenApi3 => openapi::v3_index(),
            request::Request::OpenApi3Of(version) => openapi::v3(version),
        };
        Ok(json(document.to_string().into_bytes()))
    }

    /// Returns the user whose request the API server passes on.
    fn authenticate(&self, parts: &axum::http::request::Parts) -> Result<User, Status> {
        let trusted = self.trusted.borrow().clone();
        let seconds = u64::try_from(self.clock.now().unix_timestamp()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let chain = parts.extensions.get::<ClientChain>().map(|chain| chain.0.as_slice()).unwrap_or_default();
        if !trusted.accepts(chain, now) {
            return Err(Status::unauthorized());
        }
        trusted.user(&parts.headers).ok_or_else(Status::unauthorized)
    }

    async fn figures(
        shared: &Arc<Self>,
        figures: Figures,
        parts: &axum::http::request::Parts,
        user: &User,
    ) -> Result<Response, Status> {
        let accepted = accepted(parts);
        let is_watch = figures.is_watch();
        let form = accept::choose(&accepted, !is_watch && answer::is_list(&figures))?;
        if is_watch {
            return watch::start(Arc::clone(shared), figures, form, user).await;
        }
        let _turn = shared.turn().await?;
        let (part, traffic) = shared.read(&figures).await?;
        let at = shared.now();
        // On a blocking thread: a namespace can have thousands of objects.
        let writing =
            tokio::task::spawn_blocking(move || answer::write(&figures, form, (&part, &traffic), at));
        writing.await.map_err(|_| Status::internal("the answer could not be written"))?.map(json)
    }

    /// Waits for a place among the answers that are computed.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Status> {
        let turn = timeout(QUEUE_TIMEOUT, self.answers.acquire()).await.ok().and_then(Result::ok);
        turn.ok_or_else(|| Status::too_many("too many requests are being answered; try again"))
    }

    /// Reads the objects that are asked about, and their traffic.
    async fn read(&self, figures: &Figures) -> Result<(Part, Traffic), Status> {
        let question = figures.question();
        futures::try_join!(self.objects.read(figures), self.traffic(&question))
    }

    /// Asks the source.
    async fn traffic(&self, question: &Question) -> Result<Traffic, Status> {
        // A watch reads again and again after its request was answered.
        let span = if telemetry::is_traced() { info_span!(target: TARGET, "source") } else { Span::none() };
        let answer = timeout(SOURCE_TIMEOUT, self.source.traffic(question)).instrument(span).await;
        let answer = answer.map_err(|_| {
            warn!(limit = ?SOURCE_TIMEOUT, "source of traffic timed out");
            Status::unavailable(UNREADABLE)
        })?;
        answer.map_err(|error| {
            warn!(%error, "failed to read traffic");
            of_source(&error)
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp(u64::try_from(self.clock.now().unix_timestamp()).unwrap_or_default())
    }
}
