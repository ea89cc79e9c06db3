//! Sends the operator's own spans and log records to a collector of OpenTelemetry, by OTLP over gRPC.
//!
//! Started by `cli::run`, which adds the layers to that of the log lines. `span` has what other modules begin spans with;
//! `exporter` bounds an export in time and reports what is lost. Owns threads of its own, so that a collector that hangs delays
//! no task of the operator. Without it no span is made. Does not decide what a span contains.

mod exporter;
mod span;

use std::{
    io,
    time::{Duration, Instant},
};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{ExporterBuildError, LogExporter, SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    logs::{self, BatchLogProcessor, SdkLoggerProvider},
    trace::{self, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use smidge_xds::mesh::settings::Share;
pub use span::{TARGET, continue_trace, is_traced, number, rename, value};
use tokio::runtime::{Handle, Runtime};
use tonic::transport::{Channel, Endpoint};
use tracing::{Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    registry::LookupSpan,
};

use self::exporter::Bounded;

/// Maximum number of spans, and of log records, that wait to be sent. Further ones are dropped.
const QUEUE: usize = 2_048;
/// Maximum number of them in a message.
const BATCH: usize = 512;
/// Time for which they are collected.
const DELAY: Duration = Duration::from_secs(1);
/// Time limit of a connection to the collector.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit of the last messages when the operator ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Targets of the crates by which messages are sent: a record of theirs that is sent would be the cause of the next one.
const TRANSPORT: [&str; 5] = ["h2", "hyper", "opentelemetry", "tonic", "tower"];

/// Settings of what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Address of the collector: `http://HOST:PORT`.
    pub endpoint: String,
    /// Share of the traces that begin at the operator; `None`: no spans are sent.
    pub traces: Option<Share>,
    /// True if log records are sent.
    pub logs: bool,
    /// Attributes of the operator besides its name and version.
    pub resource: Vec<(&'static str, String)>,
}

/// Errors that keep spans and log records from being sent.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The threads that send could not be started.
    #[error("failed to start the threads that send spans and log records")]
    Threads(#[source] io::Error),
    /// The address is not one.
    #[error("failed to use {endpoint} as a collector (hint: expected http://HOST[:PORT])")]
    Endpoint {
        /// The address.
        endpoint: String,
        /// Error of the transport.
        #[source]
        source: tonic::transport::Error,
    },
    /// An exporter could not be built.
    #[error("failed to set up the sending of spans and log records")]
    Exporter(#[from] ExporterBuildError),
}

/// Sender of spans and log records.
#[derive(Debug)]
pub struct Telemetry {
    spans: Option<SdkTracerProvider>,
    records: Option<SdkLoggerProvider>,
    runtime: Runtime,
}

impl Telemetry {
    /// Starts to send. Connects when there is something to send, and again after each error.
    pub fn start(settings: &Settings) -> Result<Self, TelemetryError> {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let threads = threads.worker_threads(1).thread_name("telemetry").enable_all();
        let runtime = threads.build().map_err(TelemetryError::Threads)?;
        let channel = {
            let _entered = runtime.enter();
            channel(&settings.endpoint)?
        };
        let resource = resource(settings);
        let spans = settings.traces.map(|share| spans(&channel, share, &resource, runtime.handle()));
        let records = settings.logs.then(|| records(channel.clone(), resource.clone(), runtime.handle()));
        Ok(Self { spans: spans.transpose()?, records: records.transpose()?, runtime })
    }

    /// Returns the layer of a subscriber that sends the spans with [`TARGET`], if any are sent.
    pub fn span_layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'s> LookupSpan<'s>,
    {
        let tracer = self.spans.as_ref()?.tracer("smidge");
        let layer = OpenTelemetryLayer::new(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false);
        let is_sent = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
        Some(layer.with_filter(is_sent.with_max_level_hint(LevelFilter::INFO)))
    }

    /// Returns the layer of a subscriber that sends the log records that `filter` lets pass, if any are sent.
    pub fn record_layer<S>(&self, filter: EnvFilter) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'s> LookupSpan<'s>,
    {
        let layer = OpenTelemetryTracingBridge::new(self.records.as_ref()?);
        let is_sent = filter_fn(|metadata| metadata.is_event() && !is_of_transport(metadata.target()));
        Some(layer.with_filter(filter.and(is_sent)))
    }

    /// Sends what has not been sent yet, and ends. Takes no longer than a few seconds, whatever the collector does.
    pub fn stop(self) {
        let end = Instant::now() + STOP_TIMEOUT;
        // What is not sent in time is lost.
        if let Some(spans) = &self.spans {
            let _ = spans.shutdown_with_timeout(end.saturating_duration_since(Instant::now()));
        }
        if let Some(records) = &self.records {
            let _ = records.shutdown_with_timeout(end.saturating_duration_since(Instant::now()));
        }
        self.runtime.shutdown_background();
    }
}

/// Returns true if something is for log lines: all but the spans that are sent.
pub fn is_for_lines(metadata: &Metadata<'_>) -> bool {
    metadata.target() != TARGET
}

fn is_of_transport(target: &str) -> bool {
    TRANSPORT.iter().any(|name| target.starts_with(name))
}

fn channel(endpoint: &str) -> Result<Channel, TelemetryError> {
    let invalid = |source| TelemetryError::Endpoint { endpoint: endpoint.to_owned(), source };
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).map_err(invalid)?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(exporter::TIMEOUT).connect_lazy())
}

fn resource(settings: &Settings) -> Resource {
    let own = settings.resource.iter().map(|(key, value)| KeyValue::new(*key, value.clone()));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let named = Resource::builder_empty().with_service_name("smidge").with_attribute(version);
    named.with_attributes(own).build()
}

fn spans(
    channel: &Channel,
    share: Share,
    resource: &Resource,
    threads: &Handle,
) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder().with_tonic().with_channel(channel.clone()).build()?;
    let limits = trace::BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY);
    let batches = BatchSpanProcessor::builder(Bounded::new("spans", exporter, threads.clone()));
    let ratio = Sampler::TraceIdRatioBased(f64::from(share.millionths()) / 1e6);
    Ok(SdkTracerProvider::builder()
        .with_span_processor(batches.with_batch_config(limits.build()).build())
        .with_sampler(Sampler::ParentBased(Box::new(ratio)))
        .with_resource(resource.clone())
        .build())
}

fn records(
    channel: Channel,
    resource: Resource,
    threads: &Handle,
) -> Result<SdkLoggerProvider, TelemetryError> {
    let exporter = LogExporter::builder().with_tonic().with_channel(channel).build()?;
    let limits = logs::BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY);
    let batches = BatchLogProcessor::builder(Bounded::new("log records", exporter, threads.clone()));
    let processor = batches.with_batch_config(limits.build()).build();
    Ok(SdkLoggerProvider::builder().with_log_processor(processor).with_resource(resource).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_transport_are_not_sent() {
        for target in ["h2::codec", "hyper_util::client", "opentelemetry_sdk", "opentelemetry-otlp", "tonic"]
        {
            assert!(is_of_transport(target), "{target}");
        }
        assert!(!is_of_transport("smidge::publish") && !is_of_transport("kube_runtime"));
    }

    #[test]
    fn an_address_that_is_none_is_an_error() {
        let endpoint = "http://a b".to_owned();
        let settings = Settings { endpoint, traces: Some(Share::ALL), logs: true, resource: Vec::new() };
        let error = Telemetry::start(&settings).unwrap_err().to_string();
        assert!(error.contains("http://a b") && error.contains("hint"), "{error}");
    }
}
