//! The operator's own spans and log records, as a collector of OpenTelemetry receives them.
//!
//! `program` runs `smidge run` over a folder; the others send what a test makes. Requests for TrafficMetrics are in
//! `traffic_api::spans`.

mod bounds;
mod program;
mod webhooks;

use std::net::SocketAddr;

use smidge::telemetry::{Settings, Telemetry};
use smidge_testing::control_plane::until;
use smidge_xds::mesh::settings::Share;
use smidge_xds_testing::collector::{Collector, Span};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _};

/// A trace that others have begun: sampled, and not.
pub const SAMPLED: (&str, &str) = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
pub const NOT_SAMPLED: (&str, &str) =
    ("traceparent", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");

/// Sends all that the thread of a test does to a collector.
pub fn sending_to(collector: SocketAddr) -> (Telemetry, DefaultGuard) {
    let endpoint = format!("http://{collector}");
    let settings = Settings { endpoint, traces: Some(Share::ALL), logs: true, resource: Vec::new() };
    let telemetry = Telemetry::start(&settings).unwrap();
    let subscriber = tracing_subscriber::registry()
        .with(telemetry.span_layer())
        .with(telemetry.record_layer(EnvFilter::new("info")));
    (telemetry, tracing::subscriber::set_default(subscriber))
}

/// Waits for a span with this name.
pub fn span(collector: &Collector, name: &str) -> Span {
    let find = || collector.spans().into_iter().find(|span| span.name == name);
    until(&format!("a span {name}"), || format!("{:#?}", collector.spans()), || find().is_some());
    find().unwrap()
}
