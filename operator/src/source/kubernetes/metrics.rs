//! Counts what the watches of the API server receive.
//!
//! Registered by `runtime`; written by `watch`. The label is the kind, from the table of kinds.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::clock::Clock;

/// Metrics of all watches. Clones share the counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    events: Family<Label, Counter>,
    failures: Family<Label, Counter>,
    last_event: Family<Label, Gauge>,
    last_list: Family<Label, Gauge>,
    clock: Clock,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    kind: &'static str,
}

impl Metrics {
    /// Registers new metrics in `registry`; the caller chooses the prefix. Times are those of `clock`.
    pub fn register(registry: &mut Registry, clock: Clock) -> Self {
        let family = Family::<Label, Counter>::default;
        let time = Family::<Label, Gauge>::default;
        let metrics =
            Self { events: family(), failures: family(), last_event: time(), last_list: time(), clock };
        let Self { events, failures, last_event, last_list, clock: _ } = metrics.clone();
        registry.register("events", "Changes and lists received from the API server, by kind", events);
        let help = "Lists and watches of the API server that failed, by kind; each is repeated";
        registry.register("failures", help, failures);
        let help =
            "Time of the last change or list that was received, in seconds since 1970; 0 before the first";
        registry.register_with_unit("last_event_timestamp", help, Unit::Seconds, last_event);
        let help = "Time of the last complete list, in seconds since 1970; 0 before the first. A kind that is not installed has an empty list";
        registry.register_with_unit("last_list_timestamp", help, Unit::Seconds, last_list);
        metrics
    }

    /// Returns the metrics of one kind. They exist from then on, at zero.
    pub fn of(&self, kind: &'static str) -> OfKind {
        let label = Label { kind };
        for time in [&self.last_event, &self.last_list] {
            drop(time.get_or_create(&label));
        }
        OfKind {
            events: self.events.get_or_create(&label).clone(),
            failures: self.failures.get_or_create(&label).clone(),
            label,
            metrics: self.clone(),
        }
    }
}

/// Metrics of the watch of one kind.
#[derive(Debug, Clone)]
pub struct OfKind {
    label: Label,
    events: Counter,
    failures: Counter,
    metrics: Metrics,
}

impl OfKind {
    /// Counts a change of an object.
    pub(super) fn changed(&self) {
        self.events.inc();
        self.metrics.last_event.get_or_create(&self.label).set(self.now());
    }

    /// Counts a complete list.
    pub(super) fn listed(&self) {
        self.changed();
        self.metrics.last_list.get_or_create(&self.label).set(self.now());
    }

    /// Counts a list or watch that failed.
    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    fn now(&self) -> i64 {
        self.metrics.clock.now().unix_timestamp()
    }
}
