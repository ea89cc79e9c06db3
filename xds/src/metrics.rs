//! What the server counts, as Prometheus metrics.
//!
//! Registered by the caller under its own prefix; counted by `server`. Labels are closed words: no proxy, no name of a
//! resource, nothing that a client chose.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{delta::PerKind, resources::Kind, server::RefusalReason};

/// The label sets, each with one label.
type Label = [(&'static str, &'static str); 1];

/// The server's metrics. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Streams that are connected and admitted.
    pub(crate) streams: Gauge,
    /// How often a stream was woken by a new snapshot that changed its view.
    pub(crate) woken: Counter,
    /// How often a stream was not listened to for a while.
    pub(crate) hushed: Counter,
    /// Leaf certificates that could not be issued.
    pub(crate) unissued: Counter,
    refused: Family<Label, Counter>,
    /// Found once, so that counting takes no lock.
    kinds: PerKind<KindMetrics>,
}

/// The metrics of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct KindMetrics {
    pub(crate) responses: Counter,
    pub(crate) resources: Counter,
    pub(crate) removals: Counter,
    pub(crate) bytes: Counter,
    pub(crate) nacks: Counter,
}

impl Metrics {
    /// Adds the metrics to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let family = Family::<Label, Counter>::default;
        let (responses, resources, removals, bytes, nacks) =
            (family(), family(), family(), family(), family());
        let mut kinds = PerKind::<KindMetrics>::default();
        for kind in Kind::ALL {
            let label = [("kind", short_name(kind))];
            *kinds.get_mut(kind) = KindMetrics {
                responses: responses.get_or_create(&label).clone(),
                resources: resources.get_or_create(&label).clone(),
                removals: removals.get_or_create(&label).clone(),
                bytes: bytes.get_or_create(&label).clone(),
                nacks: nacks.get_or_create(&label).clone(),
            };
        }
        let metrics = Self {
            streams: Gauge::default(),
            woken: Counter::default(),
            hushed: Counter::default(),
            unissued: Counter::default(),
            refused: family(),
            kinds,
        };
        registry.register("streams", "Streams that are connected and admitted", metrics.streams.clone());
        registry.register(
            "streams_woken",
            "Wake-ups of streams by a change of their view",
            metrics.woken.clone(),
        );
        registry.register(
            "streams_hushed",
            "Times a stream was not listened to for a while, as it said too much",
            metrics.hushed.clone(),
        );
        registry.register("streams_refused", "Streams refused, by reason", metrics.refused.clone());
        registry.register("unissued", "Leaf certificates that could not be issued", metrics.unissued.clone());
        registry.register("responses", "Responses sent, by kind", responses);
        registry.register("resources_sent", "Resources sent, by kind", resources);
        registry.register("resources_removed", "Names sent as not existing, by kind", removals);
        registry.register_with_unit("response", "Bytes of responses sent, by kind", Unit::Bytes, bytes);
        registry.register("nacks", "Responses that a proxy refused, by kind", nacks);
        metrics
    }

    pub(crate) fn of(&self, kind: Kind) -> &KindMetrics {
        self.kinds.get(kind)
    }

    pub(crate) fn refuse(&self, reason: RefusalReason) {
        self.refused.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    /// How many resources were sent in all. Zero for a proxy that came back and had everything.
    pub fn resources_sent(&self) -> u64 {
        Kind::ALL.into_iter().map(|kind| self.of(kind).resources.get()).sum()
    }
}

/// The customary name of the protocol of a kind.
pub(crate) fn short_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "cds",
        Kind::Endpoints => "eds",
        Kind::Secret => "sds",
        Kind::Listener => "lds",
        Kind::Extension => "ecds",
        Kind::Route => "rds",
    }
}
