//! Turns counters into metrics of Prometheus: names of Smidge's own, and those that tools for other meshes query.
//!
//! Pure. Read by `operator::traffic::exposition`. The table [`FAMILIES`] is all that is known of a metric: the page, the
//! documentation and the dashboards follow it. The proxies count once, whatever the number of names.
//!
//! Under the names of Open Service Mesh and Linkerd, and as Istio's `reporter="destination"`, the server's proxy counts:
//! a caller cannot spoil the figures of a server that it may not reach.

pub mod ended;
pub(crate) mod labels;

use std::collections::BTreeMap;

use crate::{
    counters::{Key, Protocol},
    series::Value,
    traffic::Side,
};
use ended::{Snapshot, add};
use labels::Label;

/// Sets of names, each of which can be turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Names {
    /// Smidge's own.
    Smidge,
    /// Those of Open Service Mesh, which Flagger's provider `osm` queries.
    Osm,
    /// Those of Istio, which Flagger's provider `smi` and Argo Rollouts' examples query.
    Istio,
    /// Those of Linkerd, which Flagger's provider `linkerd` queries.
    Linkerd,
}

impl Names {
    /// All sets.
    pub const ALL: [Self; 4] = [Self::Smidge, Self::Osm, Self::Istio, Self::Linkerd];

    /// Returns the word for the set in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smidge => "smidge",
            Self::Osm => "osm",
            Self::Istio => "istio",
            Self::Linkerd => "linkerd",
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The set of its name.
    pub names: Names,
    /// Its name, of a counter without `_total`.
    pub name: &'static str,
    /// Its description.
    pub help: &'static str,
    /// True for a histogram of milliseconds (`traffic::BOUNDS_MS`); others are counters.
    pub is_histogram: bool,
    /// True for a metric of pods: it has the counters in which they are distinguished, the others have the rest.
    pub of_pods: bool,
    /// Returns true for counters that are part of it.
    counts: fn(&Key) -> bool,
    labels: &'static [&'static [Label]],
}

/// Requests by workload.
pub const REQUESTS: Family = Family {
    names: Names::Smidge,
    name: "smidge_requests",
    help: "HTTP and gRPC requests, by caller, server, Service and answer",
    is_histogram: false,
    of_pods: false,
    counts: is_request,
    labels: &[labels::PARTIES, labels::ANSWER, labels::REQUEST],
};

/// Latency by workload.
pub const LATENCY: Family = Family {
    names: Names::Smidge,
    name: "smidge_request_duration_milliseconds",
    help: "Latency of the requests that were answered, in milliseconds",
    is_histogram: true,
    of_pods: false,
    counts: is_latency,
    labels: &[labels::PARTIES],
};

/// Connections by workload.
pub const CONNECTIONS: Family = Family {
    names: Names::Smidge,
    name: "smidge_tcp_connections",
    help: "TCP connections that have ended, by caller, server and outcome",
    is_histogram: false,
    of_pods: false,
    counts: is_connection,
    labels: &[labels::PARTIES, labels::ANSWER],
};

/// Requests by pod.
pub(crate) const POD_REQUESTS: Family = Family {
    name: "smidge_pod_requests",
    help: "The same requests by the pod whose proxy has counted, without the answer",
    of_pods: true,
    labels: &[labels::PODS, labels::PARTIES, labels::OUTCOMES],
    ..REQUESTS
};

/// Latency by pod.
pub(crate) const POD_LATENCY: Family = Family {
    name: "smidge_pod_request_duration_milliseconds",
    help: "The same latency by the pod whose proxy has counted",
    of_pods: true,
    labels: &[labels::PODS, labels::PARTIES],
    ..LATENCY
};

/// Connections by pod.
pub(crate) const POD_CONNECTIONS: Family = Family {
    name: "smidge_pod_tcp_connections",
    help: "The same connections by the pod whose proxy has counted",
    of_pods: true,
    labels: &[labels::PODS, labels::PARTIES, labels::OUTCOMES],
    ..CONNECTIONS
};

/// All metrics.
pub const FAMILIES: [Family; 13] = [
    REQUESTS,
    LATENCY,
    CONNECTIONS,
    POD_REQUESTS,
    POD_LATENCY,
    POD_CONNECTIONS,
    Family {
        names: Names::Osm,
        name: "osm_request",
        help: "Requests that a workload received",
        is_histogram: false,
        of_pods: false,
        counts: |key| is_request(key) && is_received(key),
        labels: &[labels::OSM, labels::OSM_ANSWER],
    },
    Family {
        names: Names::Osm,
        name: "osm_request_duration_ms",
        help: "Latency of the requests that a workload received, in milliseconds",
        is_histogram: true,
        of_pods: false,
        counts: |key| is_latency(key) && is_received(key),
        labels: &[labels::OSM],
    },
    Family {
        names: Names::Istio,
        name: "istio_requests",
        help: "Requests, as the caller's proxy (reporter source) and the server's have counted them",
        is_histogram: false,
        of_pods: false,
        counts: is_request,
        labels: &[labels::ISTIO, labels::ISTIO_ANSWER],
    },
    Family {
        names: Names::Istio,
        name: "istio_request_duration_milliseconds",
        help: "Latency of requests in milliseconds, as either proxy has measured it",
        is_histogram: true,
        of_pods: false,
        counts: is_latency,
        labels: &[labels::ISTIO],
    },
    Family {
        names: Names::Istio,
        name: "istio_tcp_connections_closed",
        help: "TCP connections that have ended",
        is_histogram: false,
        of_pods: false,
        counts: is_connection,
        labels: &[labels::ISTIO],
    },
    Family {
        names: Names::Linkerd,
        name: "response",
        help: "Responses to requests that a workload received (inbound) or sent (outbound)",
        is_histogram: false,
        of_pods: false,
        counts: is_request,
        labels: &[labels::LINKERD, labels::LINKERD_ANSWER],
    },
    Family {
        names: Names::Linkerd,
        name: "response_latency_ms",
        help: "Latency of responses in milliseconds",
        is_histogram: true,
        of_pods: false,
        counts: is_latency,
        labels: &[labels::LINKERD],
    },
];

/// Labels of a sample with their values; those that are empty are absent.
pub type LabelSet = Vec<(&'static str, String)>;

impl Family {
    /// Returns the name of what is counted, as queries have it: that of a counter ends with `_total`.
    pub fn full_name(&self) -> String {
        if self.is_histogram { format!("{}_bucket", self.name) } else { format!("{}_total", self.name) }
    }

    fn has(&self, key: &Key) -> bool {
        self.of_pods != key.pod.is_empty() && (self.counts)(key)
    }

    /// Returns the names of its labels.
    pub fn label_names(&self) -> impl Iterator<Item = &'static str> {
        self.labels.iter().flat_map(|group| group.iter()).map(|label| label.name)
    }

    /// Returns true if its samples may have this label. Constant, so that the compiler can check a query.
    pub const fn has_label(&self, name: &str) -> bool {
        let mut groups = self.labels;
        while let [group, more @ ..] = groups {
            let mut labels = *group;
            while let [label, rest @ ..] = labels {
                if is_same(label.name.as_bytes(), name.as_bytes()) {
                    return true;
                }
                labels = rest;
            }
            groups = more;
        }
        false
    }

    /// Returns its samples: the sum of the counters that have the same labels. `cluster_domain` completes the names of
    /// Services, for example `cluster.local`.
    pub fn samples(&self, snapshot: &Snapshot, cluster_domain: &str) -> BTreeMap<LabelSet, Value> {
        let mut samples = BTreeMap::new();
        let existing = snapshot.counters.iter().filter(|(key, _)| self.has(key));
        let existing = existing.map(|(key, value)| (key, value));
        for (key, value) in existing.chain(snapshot.ended.of(self)) {
            add(&mut samples, self.labels_of(key, cluster_domain), value);
        }
        samples
    }

    fn labels_of(&self, key: &Key, cluster_domain: &str) -> LabelSet {
        let labels = self.labels.iter().flat_map(|group| group.iter());
        let set = labels.map(|label| (label.name, (label.value)(key, cluster_domain)));
        set.filter(|(_, value)| !value.is_empty()).collect()
    }
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    match (one, other) {
        ([], []) => true,
        ([first, one @ ..], [second, other @ ..]) => *first == *second && is_same(one, other),
        _ => false,
    }
}

fn is_request(key: &Key) -> bool {
    key.answer.is_some_and(|answer| answer.protocol != Protocol::Tcp)
}

fn is_connection(key: &Key) -> bool {
    key.answer.is_some_and(|answer| answer.protocol == Protocol::Tcp)
}

fn is_latency(key: &Key) -> bool {
    key.answer.is_none()
}

fn is_received(key: &Key) -> bool {
    key.calls.side == Side::Server
}
