//! Traffic of Kubernetes objects: who calls whom, how often, how fast, and how often it fails.
//!
//! Made by `store` from what proxies push, and by any other [`TrafficSource`]; consumed by the API of TrafficMetrics and
//! by the tool. Does not know where the figures come from.

use std::{collections::BTreeMap, future::Future, time::Duration};

use serde::{Deserialize, Serialize};

/// Upper bounds of the latency histogram, in milliseconds. A last bucket counts what is slower.
pub const BOUNDS_MS: [u64; 13] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];
/// Number of buckets.
pub const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// Kinds of objects that have traffic (SMI TrafficMetrics, "Kubernetes API").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// All pods of a namespace.
    Namespace,
    /// All pods of a node.
    Node,
    /// One pod.
    Pod,
    /// The pods of a ReplicationController.
    ReplicationController,
    /// The calls of a Service, as its callers' proxies count them.
    Service,
    /// The pods of a DaemonSet.
    DaemonSet,
    /// The pods of a Deployment.
    Deployment,
    /// The pods of a ReplicaSet.
    ReplicaSet,
    /// The pods of a StatefulSet.
    StatefulSet,
    /// The pods of a Job.
    Job,
    /// The calls of the root Service of a TrafficSplit, by backend.
    TrafficSplit,
}

/// Namespace and name of an object; the namespace of a Namespace or Node is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ObjectName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// Direction of the calls of an edge, seen from the object that was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The object calls the peer.
    To,
    /// The peer calls the object.
    From,
}

/// Side whose proxy has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The caller's proxy.
    Client,
    /// The server's proxy.
    Server,
}

/// Other end of calls, as far as it is known. All empty: a caller without an identity (plaintext).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Peer {
    /// Its kind, for example `Deployment`; `Service` if only the Service that was called is known.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ServiceAccount, if an identity was verified.
    pub service_account: String,
}

/// Key of an edge of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// Direction of the calls.
    pub direction: Direction,
    /// Side that has counted.
    pub side: Side,
    /// The other end.
    pub peer: Peer,
    /// The backend Service that took the calls, for a TrafficSplit.
    pub backend: Option<ObjectName>,
    /// The route of the calls, as `namespace/group/match`, where the server's proxy measures routes.
    pub route: Option<String>,
}

/// Figures of the calls of an edge within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Number of calls that succeeded.
    pub success: u64,
    /// Number of calls that failed: status 5xx, a gRPC status of a server's fault, or no answer.
    pub failure: u64,
    /// Number of calls that policy refused; they are in neither of the other counts.
    pub refused: u64,
    /// Latency of the calls that were answered, by bucket (`BOUNDS_MS`), not cumulative.
    pub latency: [u64; BUCKETS],
}

/// The traffic of some objects: the edges of each that had any.
pub type Traffic = BTreeMap<ObjectName, BTreeMap<Edge, Figures>>;

/// Question about objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Their kind.
    pub kind: Kind,
    /// Their namespace; `None`: all.
    pub namespace: Option<String>,
    /// The name of the one object; `None`: all.
    pub name: Option<String>,
    /// Length of the time up to now that is reported.
    pub window: Duration,
}

/// Error of a source. `about` is what it was asked for and where, for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The source does not answer now. The reason can have addresses of pods.
    #[error("traffic is not available: {0}")]
    Unavailable(String),
    /// The source did not answer in time.
    #[error("traffic is not available: {source_name}{about} did not answer within {limit:?}")]
    TimedOut {
        /// The source.
        source_name: String,
        /// The query.
        about: String,
        /// The time limit.
        limit: Duration,
    },
    /// The source could not be reached, or has answered with an error.
    #[error("traffic is not available: {source_name}{about} {reason}")]
    Failed {
        /// The source.
        source_name: String,
        /// The query.
        about: String,
        /// A predicate: `answered 422: too many samples`.
        reason: String,
    },
    /// The source has answered with something that cannot be read.
    #[error("traffic is not available: the answer of {source_name}{about} cannot be read: {reason}")]
    Invalid {
        /// The source.
        source_name: String,
        /// The query.
        about: String,
        /// The defect.
        reason: String,
    },
    /// The source does not have what is asked for; the text has the setting that changes it.
    #[error("{0}")]
    Unsupported(String),
}

impl SourceError {
    /// Returns the message for users, who may read nothing but traffic; `None` if there is none that they may read.
    pub fn for_users(&self) -> Option<String> {
        match self {
            Self::Unavailable(_) => None,
            Self::TimedOut { source_name, limit, .. } => {
                Some(format!("{source_name} did not answer within {limit:?}"))
            }
            Self::Failed { source_name, reason, .. } => Some(format!("{source_name} {reason}")),
            Self::Invalid { source_name, reason, .. } => {
                Some(format!("the answer of {source_name} cannot be read: {reason}"))
            }
            Self::Unsupported(text) => Some(text.clone()),
        }
    }
}

/// Source of traffic: the embedded store of all replicas, or Prometheus.
pub trait TrafficSource: Send + Sync {
    /// Returns the traffic of the objects. Objects without any are absent.
    fn traffic(&self, question: &Question) -> impl Future<Output = Result<Traffic, SourceError>> + Send;
}

impl Figures {
    /// Adds other figures.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, u64::saturating_add);
    }

    /// Replaces each figure by the result of `combine` with that of `other`.
    pub(crate) fn combine(&mut self, other: &Self, combine: impl Fn(u64, u64) -> u64) {
        self.success = combine(self.success, other.success);
        self.failure = combine(self.failure, other.failure);
        self.refused = combine(self.refused, other.refused);
        self.latency.iter_mut().zip(&other.latency).for_each(|(own, other)| *own = combine(*own, *other));
    }

    /// Returns the latency below which this share (0 to 1) of the answered calls was, in milliseconds: interpolated
    /// within the bucket, as Prometheus does; 0 without calls, the last bound for what is slower than it.
    pub fn percentile(&self, share: f64) -> f64 {
        let total: u64 = self.latency.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^52")]
        let (rank, as_f64) = (share * total as f64, |number: u64| number as f64);
        let (mut below, mut lower) = (0, 0);
        for (count, upper) in self.latency.iter().zip(BOUNDS_MS) {
            if *count > 0 && as_f64(below + count) >= rank {
                return as_f64(lower) + (as_f64(upper - lower)) * ((rank - as_f64(below)) / as_f64(*count));
            }
            (below, lower) = (below + count, upper);
        }
        if total == 0 { 0.0 } else { as_f64(lower) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_interpolated_within_the_bucket() {
        let mut figures = Figures::default();
        assert!(figures.percentile(0.99).abs() < f64::EPSILON);
        // 50 calls of 5 to 10 ms, 50 of 10 to 25 ms.
        figures.latency[3] = 50;
        figures.latency[4] = 50;
        assert!((figures.percentile(0.5) - 10.0).abs() < 1e-9);
        assert!((figures.percentile(0.9) - 22.0).abs() < 1e-9);
        figures.latency = [0; BUCKETS];
        figures.latency[BUCKETS - 1] = 1;
        assert!((figures.percentile(0.5) - 10_000.0).abs() < 1e-9);
    }
}
