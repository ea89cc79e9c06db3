//! Counts the requests of webhooks, measures how long answers take, and makes a span of each.
//!
//! Registered by `runtime`. `webhook` notes what it answers as an extension of the response; `measured` is the outermost
//! layer, so that refused callers and time limits count as well. Labels are words of closed sets.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{Instrument as _, Span, field::Empty, info_span};

use super::review;
use crate::telemetry::{self, TARGET};

/// The webhooks by the paths of their requests, with the operations that each is called for.
const WEBHOOKS: [(&str, &str, &[&str]); 3] = [
    ("/inject", "inject", &["CREATE", "UPDATE", UNKNOWN]),
    ("/validate", "validate", &["CREATE", "UPDATE", "DELETE", UNKNOWN]),
    ("/convert", "convert", &["CONVERT", UNKNOWN]),
];

/// Operation of a request that was not read, or that a webhook is not called for.
const UNKNOWN: &str = "unknown";

/// Bounds of the histogram, in seconds. The API server gives up after 30 s at the most.
const BOUNDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The object was admitted, or the objects converted.
    Allowed,
    /// The object was refused by a rule of the mesh, or an object cannot be converted.
    Denied,
    /// The object was admitted without a verdict, for lack of time or memory.
    Unjudged,
    /// The caller has not proven to be the API server.
    Refused,
    /// The request is not a review.
    Invalid,
    /// There was no room or no turn for the request.
    Busy,
    /// The request took too long to arrive or to be answered.
    Timeout,
    /// The answer failed to be made.
    Failed,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 8] = [
        Self::Allowed,
        Self::Denied,
        Self::Unjudged,
        Self::Refused,
        Self::Invalid,
        Self::Busy,
        Self::Timeout,
        Self::Failed,
    ];

    /// Returns the value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Unjudged => "unjudged",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
        }
    }

    /// Returns true if the webhook did not do what it is for. A refusal is what it is for.
    fn is_failure(self) -> bool {
        matches!(self, Self::Unjudged | Self::Busy | Self::Timeout | Self::Failed)
    }

    /// Returns the outcome that a review's answer declares.
    pub(super) fn of_answer(answer: &Value) -> Self {
        let is_denied = answer.pointer("/response/allowed").and_then(Value::as_bool) == Some(false);
        if is_denied { Self::Denied } else { Self::Allowed }
    }

    /// Returns the outcome of a response without one.
    fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::FORBIDDEN => Self::Refused,
            StatusCode::SERVICE_UNAVAILABLE => Self::Busy,
            StatusCode::REQUEST_TIMEOUT => Self::Timeout,
            status if status.is_client_error() => Self::Invalid,
            status if status.is_server_error() => Self::Failed,
            _ => Self::Allowed,
        }
    }
}

/// Metrics of the webhooks. Clones share the counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<Answered, Counter>,
    duration: Family<Called, Histogram, fn() -> Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    webhook: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    webhook: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let duration = Family::new_with_constructor((|| Histogram::new(BOUNDS)) as fn() -> Histogram);
        Self { requests: Family::default(), duration }
    }
}

impl Metrics {
    /// Registers the metrics; the caller chooses the prefix. Every label exists from the start, at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Requests of webhooks that were answered, by webhook, operation and outcome";
        registry.register("requests", help, metrics.requests.clone());
        let help = "Time from the head of a request to its answer";
        registry.register_with_unit("request_duration", help, Unit::Seconds, metrics.duration.clone());
        for (_, webhook, operations) in WEBHOOKS {
            drop(metrics.duration.get_or_create(&Called { webhook }));
            for &operation in operations {
                for outcome in Outcome::ALL.map(Outcome::as_str) {
                    drop(metrics.requests.get_or_create(&Answered { webhook, operation, outcome }));
                }
            }
        }
        metrics
    }

    /// Returns the number of requests so far.
    pub fn requests(&self, webhook: &'static str, operation: &'static str, outcome: Outcome) -> u64 {
        self.requests.get_or_create(&Answered { webhook, operation, outcome: outcome.as_str() }).get()
    }
}

/// Operation of a request as its review has it, noted on the response.
#[derive(Debug, Clone)]
struct Operation(String);

/// Notes the operation of a review on its response.
pub(super) fn noted(mut response: Response, operation: Option<String>) -> Response {
    if let Some(operation) = operation {
        response.extensions_mut().insert(Operation(operation));
    }
    response
}

/// Notes the outcome on a response.
pub(super) fn with(mut response: Response, outcome: Outcome) -> Response {
    response.extensions_mut().insert(outcome);
    response
}

/// Makes the span of a request.
fn span(webhook: &'static str, request: &Request) -> Span {
    let span = info_span!(
        target: TARGET,
        parent: None,
        "webhook",
        otel.name = format!("webhook {webhook}"),
        otel.kind = "server",
        otel.status_code = Empty,
        smidge.operation = Empty,
        smidge.outcome = Empty,
        smidge.review.uid = Empty,
        smidge.conversion.version = Empty,
        k8s.object.kind = Empty,
        k8s.object.name = Empty,
        k8s.namespace.name = Empty,
        http.request.body.size = Empty,
        http.response.status_code = Empty,
    );
    telemetry::continue_trace(&span, request.headers());
    span
}

/// Notes on the span of the request what the start of its body has, if spans are sent.
pub(super) fn describe(body: &[u8]) {
    if !telemetry::is_traced() {
        return;
    }
    let span = Span::current();
    span.record("http.request.body.size", telemetry::number(body.len()));
    for (attribute, path) in [
        ("smidge.review.uid", ["uid"].as_slice()),
        ("smidge.conversion.version", &["desiredAPIVersion"]),
        ("k8s.object.kind", &["kind", "kind"]),
        ("k8s.object.name", &["name"]),
        ("k8s.namespace.name", &["namespace"]),
    ] {
        if let Some(text) = review::text(body, path) {
            span.record(attribute, telemetry::value(&text));
        }
    }
}

/// Counts a request. One whose client has gone is not counted, as it has no answer.
pub(super) async fn measured(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let Some((_, webhook, operations)) = WEBHOOKS.into_iter().find(|(of, ..)| *of == path) else {
        return next.run(request).await;
    };
    let started = Instant::now();
    let span = span(webhook, &request);
    let response = next.run(request).instrument(span.clone()).await;
    let of = response.extensions().get::<Operation>();
    let operation = of.and_then(|of| operations.iter().find(|word| **word == of.0)).unwrap_or(&UNKNOWN);
    let noted = response.extensions().get::<Outcome>().copied();
    let outcome = noted.unwrap_or_else(|| Outcome::of_status(response.status()));
    if outcome.is_failure() {
        span.record("otel.status_code", "error");
    }
    let outcome = outcome.as_str();
    span.record("smidge.operation", *operation);
    span.record("smidge.outcome", outcome);
    span.record("http.response.status_code", i64::from(response.status().as_u16()));
    metrics.requests.get_or_create(&Answered { webhook, operation, outcome }).inc();
    metrics.duration.get_or_create(&Called { webhook }).observe(started.elapsed().as_secs_f64());
    response
}
