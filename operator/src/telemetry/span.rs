//! Spans that are sent: their target, the caller's trace, and values that are fit for attributes.
//!
//! Used by the modules that begin spans. Spans are made for requests and for publications, never for each proxy. Attributes
//! name objects; none has a user, a token, or a header of a request.

use axum::http::HeaderMap;
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Target of the spans that are sent. Log lines do not show them.
pub const TARGET: &str = "smidge::spans";

/// Maximum length of a value, in characters: a name of Kubernetes fits in.
const MAX_VALUE: usize = 253;

/// Header that names the caller's trace (W3C Trace Context).
const HEADER: &str = "traceparent";

/// Continues the trace that the headers of a request name, if they name one. To be called before the span is entered.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() || !headers.contains_key(HEADER) {
        return;
    }
    let of_caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &Caller(headers));
    // An error means that spans are not sent.
    let _ = span.set_parent(of_caller);
}

/// Renames a span that was entered.
pub fn rename(span: &Span, name: String) {
    if !span.is_disabled() {
        span.context().span().update_name(name);
    }
}

/// Returns text from outside as a value: short, and free of characters that do more than show themselves.
pub fn value(text: &str) -> String {
    smidge_xds::mesh::text::brief(text, MAX_VALUE)
}

/// Returns a number as a value: attributes have a sign.
pub fn number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Returns true within a span that is sent.
pub fn is_traced() -> bool {
    Span::current().metadata().is_some_and(|metadata| metadata.target() == TARGET)
}

/// The caller's trace. `tracestate`, which has no limit of its own, is left out: nothing is called in its name.
struct Caller<'h>(&'h HeaderMap);

impl Extractor for Caller<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).filter(|_| key == HEADER)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec![HEADER]
    }
}
