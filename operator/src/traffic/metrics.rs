//! Counts what the store of traffic receives, holds and drops.
//!
//! Registered by `runtime`; written by `receiver` and `replicas`. Labels are words of closed sets.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use smidge_traffic_metrics::store::{DropReason, Dropped, Size};

/// Metrics of the store of traffic. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    received: Counter,
    dropped: Family<Why, Counter>,
    proxies: Gauge,
    series: Gauge,
    bytes: Gauge,
    counters: Gauge,
    /// Number of times that another replica did not answer in time.
    pub(super) unanswered: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Metrics {
    /// Registers the metrics; the caller chooses the prefix. Every reason exists from the start, at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Bytes of statistics that proxies have pushed to this replica";
        registry.register_with_unit("received", help, Unit::Bytes, metrics.received.clone());
        let help = "Points of pushed statistics that were dropped, by reason; a message that cannot be used counts once";
        registry.register("dropped", help, metrics.dropped.clone());
        for reason in DropReason::ALL {
            drop(metrics.dropped.get_or_create(&Why { reason: reason.as_str() }));
        }
        let help = "Proxies that have pushed statistics to this replica within the longest window";
        registry.register("proxies", help, metrics.proxies.clone());
        registry.register("series", "Series of proxies that are held", metrics.series.clone());
        let help = "Memory of the statistics that are held";
        registry.register_with_unit("held", help, Unit::Bytes, metrics.bytes.clone());
        registry.register(
            "counters",
            "Counters of traffic that are shown to Prometheus",
            metrics.counters.clone(),
        );
        let help = "Times that another replica did not answer in time, so that an answer was partial";
        registry.register("replicas_unanswered", help, metrics.unanswered.clone());
        metrics
    }

    /// Counts a message.
    pub(super) fn received(&self, bytes: usize, dropped: &Dropped) {
        self.received.inc_by(bytes.try_into().unwrap_or(u64::MAX));
        for (reason, count) in dropped {
            self.dropped.get_or_create(&Why { reason: reason.as_str() }).inc_by(*count);
        }
    }

    /// Sets what is held.
    pub(super) fn holds(&self, size: Size) {
        self.proxies.set(number(size.proxies));
        self.series.set(number(size.series));
        self.bytes.set(number(size.bytes));
        self.counters.set(number(size.counters));
    }
}
