//! Metrics of the server, for Prometheus.
//!
//! Registered by the caller under its own prefix; counted by `server`. Labels are words of closed sets: no proxy, no
//! name of a resource, nothing that a client chose.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{delta::PerType, refusal::RefusalReason, resources::ResourceType};

/// The label sets, each with one label.
type Label = [(&'static str, &'static str); 1];

/// The server's metrics. Clones share the counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Number of streams that are connected and admitted.
    pub(crate) streams: Gauge,
    /// Number of times that a new snapshot changed the view of a stream.
    pub(crate) view_updates: Counter,
    /// Number of times that reading from a stream was paused by its request rate limit.
    pub(crate) throttled: Counter,
    /// Number of messages with statistics that were refused, as their proxy has sent too many.
    pub(crate) pushes_throttled: Counter,
    /// Number of leaf certificates that failed to be issued to a stream.
    pub(crate) certificate_failures: Counter,
    refused: Family<Label, Counter>,
    /// Looked up once, so that counting takes no lock.
    kinds: PerType<KindMetrics>,
}

/// The metrics of one kind.
#[derive(Debug, Clone)]
pub(crate) struct KindMetrics {
    pub(crate) responses: Counter,
    pub(crate) resources: Counter,
    pub(crate) removals: Counter,
    pub(crate) bytes: Counter,
    pub(crate) nacks: Counter,
    /// Time from a response to its ACK or NACK, in seconds.
    pub(crate) acknowledgement: Histogram,
}

/// Bounds of the histogram, in seconds.
const BOUNDS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

impl Default for KindMetrics {
    fn default() -> Self {
        let counter = Counter::default;
        Self {
            responses: counter(),
            resources: counter(),
            removals: counter(),
            bytes: counter(),
            nacks: counter(),
            acknowledgement: Histogram::new(BOUNDS),
        }
    }
}

impl Metrics {
    /// Adds the metrics to `registry`. Every kind and every reason exists from the start, at zero: the first increase of a
    /// counter that did not exist before is no increase to Prometheus.
    pub fn register(registry: &mut Registry) -> Self {
        let family = Family::<Label, Counter>::default;
        let (responses, resources, removals, bytes, nacks) =
            (family(), family(), family(), family(), family());
        let acknowledgements =
            Family::<Label, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(BOUNDS));
        let mut kinds = PerType::<KindMetrics>::default();
        for kind in ResourceType::ALL {
            let label = [("kind", short_name(kind))];
            *kinds.get_mut(kind) = KindMetrics {
                responses: responses.get_or_create(&label).clone(),
                resources: resources.get_or_create(&label).clone(),
                removals: removals.get_or_create(&label).clone(),
                bytes: bytes.get_or_create(&label).clone(),
                nacks: nacks.get_or_create(&label).clone(),
                acknowledgement: acknowledgements.get_or_create(&label).clone(),
            };
        }
        let metrics = Self {
            streams: Gauge::default(),
            view_updates: Counter::default(),
            throttled: Counter::default(),
            pushes_throttled: Counter::default(),
            certificate_failures: Counter::default(),
            refused: family(),
            kinds,
        };
        registry.register("streams", "Streams that are connected and admitted", metrics.streams.clone());
        registry.register(
            "view_updates",
            "Times that a snapshot changed the view of a stream",
            metrics.view_updates.clone(),
        );
        registry.register(
            "streams_throttled",
            "Times that reading from a stream was paused by its request rate limit",
            metrics.throttled.clone(),
        );
        registry.register(
            "pushes_throttled",
            "Messages with statistics that were refused, as their proxy has sent too many",
            metrics.pushes_throttled.clone(),
        );
        for reason in RefusalReason::ALL {
            drop(metrics.refused.get_or_create(&[("reason", reason.as_str())]));
        }
        registry.register("streams_refused", "Streams refused, by reason", metrics.refused.clone());
        registry.register(
            "certificate_failures",
            "Leaf certificates that failed to be issued to a stream",
            metrics.certificate_failures.clone(),
        );
        registry.register("responses", "Responses sent, by kind", responses);
        registry.register("resources_sent", "Resources sent, by kind", resources);
        registry.register("resources_removed", "Names sent as not existing, by kind", removals);
        registry.register_with_unit("response", "Bytes of responses sent, by kind", Unit::Bytes, bytes);
        let help = "Time from a response to the answer of its proxy, an ACK or a NACK, by kind";
        registry.register_with_unit("acknowledgement_duration", help, Unit::Seconds, acknowledgements);
        registry.register("nacks", "Responses that a proxy rejected, by kind", nacks);
        metrics
    }

    pub(crate) fn of(&self, kind: ResourceType) -> &KindMetrics {
        self.kinds.get(kind)
    }

    pub(crate) fn refuse(&self, reason: RefusalReason) {
        self.refused.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    /// Returns the total number of resources that were sent. Zero for a proxy that reconnected and had everything.
    pub fn resources_sent(&self) -> u64 {
        ResourceType::ALL.into_iter().map(|kind| self.of(kind).resources.get()).sum()
    }
}

/// Returns the customary name of the protocol of a kind.
pub(crate) fn short_name(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::Cluster => "cds",
        ResourceType::Endpoints => "eds",
        ResourceType::Secret => "sds",
        ResourceType::Listener => "lds",
        ResourceType::Extension => "ecds",
        ResourceType::Route => "rds",
    }
}
