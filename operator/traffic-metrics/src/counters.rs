//! Keeps counters that outlive the proxies, as Prometheus reads them: calls by caller, server, Service and answer.
//!
//! Pure. Kept by `store`, which adds the difference of each series to its previous value; `families` gives them names.
//! Pods are not distinguished, so a workload's counters do not end with its pods, and their number does not follow that
//! of the pods. Where pods are counted as well, `store` keeps a second collection for them, with bounds of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    directory::{Directory, Instance},
    flow::Flow,
    outcome::Outcome,
    series::{Labels, Metric, NO_ENDPOINT, Value},
    traffic::{BUCKETS, ObjectName, Peer, Side},
};

/// Time for which a counter that no proxy adds to is kept, in seconds.
pub const KEPT: u64 = 3_600;
/// Maximum length of a line about a counter without the texts of its key, in bytes: names of the metric and of labels.
const LINE: usize = 450;
/// Lines about a histogram: its buckets, their sum and their number.
const LINES: usize = BUCKETS + 2;

/// Flags of Envoy's responses, each the reason for which a call ended as it did.
const FLAGS: [&str; 28] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX",
    "SI", "IH", "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO",
];

/// Value of a flag of a response that has none.
const NO_FLAG: &str = "-";

/// Calls from a workload to another, or to a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Calls {
    /// Side whose proxy has counted.
    pub side: Side,
    /// The caller. Only a namespace if its pod is not known; empty without an identity.
    pub source: Peer,
    /// The server, in the same form; empty if no connection was made.
    pub destination: Peer,
    /// The Service that was called. Known at the caller's side only.
    pub service: Option<ObjectName>,
    /// The route, as `namespace/group/match`; empty where none is measured. Known at the server's side only.
    pub route: String,
    /// The Service whose endpoints took the calls: a backend of a TrafficSplit, or the one that was called.
    pub backend: Option<ObjectName>,
}

/// Protocol of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP without gRPC.
    Http,
    /// gRPC.
    Grpc,
    /// Connections of TCP.
    Tcp,
}

/// Answer of calls. Every value is of a small closed set, whatever a proxy reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer {
    /// The protocol.
    pub protocol: Protocol,
    /// The outcome.
    pub outcome: Outcome,
    /// Status code of HTTP that the caller gets; 0 without an answer, and for TCP.
    pub code: u16,
    /// Status of gRPC.
    pub grpc: Option<u8>,
    /// First of Envoy's response flags; `-` if there is none, or an unknown one.
    pub flag: &'static str,
}

/// Key of a counter: the calls that it counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The calls.
    pub calls: Calls,
    /// Their answer; `None` for the latency of all that were answered.
    pub answer: Option<Answer>,
    /// The pod whose proxy has counted; empty where pods are not distinguished.
    pub pod: String,
}

/// A counter. Its value never decreases.
#[derive(Debug)]
pub struct Counter(Mutex<Value>);

/// The counters of one replica.
#[derive(Debug, Default)]
pub struct Counters {
    kept: BTreeMap<Arc<Key>, Kept>,
    bytes: usize,
    of_namespaces: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Kept {
    counter: Arc<Counter>,
    /// Time at which a proxy last had a series of it, in seconds.
    used: u64,
}

impl Calls {
    /// Returns the calls of a flow of a proxy in `namespace`.
    pub fn of(flow: &Flow, namespace: &str, instance: Option<&Instance>, directory: &dyn Directory) -> Self {
        let own = instance.map_or_else(
            || Peer { namespace: namespace.to_owned(), ..Peer::default() },
            |it| Peer {
                kind: it.workload.kind.clone(),
                namespace: it.namespace.clone(),
                name: it.workload.name.clone(),
                service_account: it.service_account.clone(),
            },
        );
        match flow {
            Flow::Inbound { peer, route } => {
                let (source, destination, route) = (plain(peer), own, plain_text(route));
                Self { side: Side::Server, source, destination, service: None, route, backend: None }
            }
            Flow::Outbound { service, root, peer } => Self {
                side: Side::Client,
                source: own,
                destination: plain(peer),
                service: root.as_ref().or(service.as_ref()).map(plain_name),
                route: String::new(),
                backend: service.as_ref().map(plain_name),
            },
            Flow::Refused { address } => {
                let service = address.and_then(|address| directory.service_at(address));
                let destination = Peer::default();
                let (side, route) = (Side::Client, String::new());
                Self { side, source: own, destination, service, route, backend: None }
            }
        }
    }

    /// Returns the namespace of the proxy that has counted.
    pub(crate) fn namespace(&self) -> &str {
        match self.side {
            Side::Client => &self.source.namespace,
            Side::Server => &self.destination.namespace,
        }
    }
}

impl Key {
    /// Returns the maximum length of what one set of names shows of the counter, in bytes. A text is in two labels at most.
    fn bytes(&self) -> usize {
        let of_peer = |peer: &Peer| {
            peer.kind.len() + peer.namespace.len() + peer.name.len() + peer.service_account.len()
        };
        let of_name =
            |name: &Option<ObjectName>| name.as_ref().map_or(0, |it| it.namespace.len() + it.name.len());
        let Calls { side: _, source, destination, service, route, backend } = &self.calls;
        let of_peers = of_peer(source) + of_peer(destination);
        let texts = of_peers + of_name(service) + of_name(backend) + route.len() + self.pod.len();
        (LINE + 2 * texts) * if self.answer.is_some() { 1 } else { LINES }
    }
}

/// Returns a peer whose texts need no escape in a label.
fn plain(peer: &Peer) -> Peer {
    Peer {
        kind: plain_text(&peer.kind),
        namespace: plain_text(&peer.namespace),
        name: plain_text(&peer.name),
        service_account: plain_text(&peer.service_account),
    }
}

/// Returns a text that needs no escape in a label.
fn plain_text(text: &str) -> String {
    text.replace(['"', '\\'], "?")
}

/// Returns a name that needs no escape in a label.
fn plain_name(name: &ObjectName) -> ObjectName {
    ObjectName { namespace: plain_text(&name.namespace), name: plain_text(&name.name) }
}

impl Answer {
    /// Returns the answer of the calls of a counter. The caller's own proxy answers 403 or 503 in the server's place.
    pub fn of(metric: Metric, labels: &Labels<'_>, outcome: Outcome) -> Self {
        let tcp = Self { protocol: Protocol::Tcp, outcome, code: 0, grpc: None, flag: flag(labels.flags) };
        match metric {
            Metric::InboundConnections => tcp,
            Metric::OutboundRefused if labels.chain.ends_with("/tcp") => tcp,
            Metric::OutboundRefused => {
                let code = if labels.chain.starts_with(NO_ENDPOINT) { 503 } else { 403 };
                Self { protocol: Protocol::Http, code, ..tcp }
            }
            _ => {
                let grpc = labels.grpc.parse().ok().filter(|status| *status <= 16);
                let protocol = if grpc.is_some() { Protocol::Grpc } else { Protocol::Http };
                let code = labels.code.parse().ok().filter(|code| *code < 1_000).unwrap_or_default();
                // An attempt that found no server has no status, and the caller gets this one.
                let code = if (code, tcp.flag) == (0, "UF") { 503 } else { code };
                Self { protocol, code, grpc, ..tcp }
            }
        }
    }
}

impl Answer {
    /// Returns the answer as counters of pods have it: the outcome, of requests or of connections.
    #[must_use]
    pub fn outcome_alone(self) -> Self {
        let protocol = if self.protocol == Protocol::Tcp { Protocol::Tcp } else { Protocol::Http };
        Self { protocol, outcome: self.outcome, code: 0, grpc: None, flag: NO_FLAG }
    }
}

fn flag(flags: &str) -> &'static str {
    let first = flags.split(',').next().unwrap_or_default().trim();
    FLAGS.into_iter().find(|flag| *flag == first).unwrap_or(NO_FLAG)
}

impl Counter {
    /// Adds to the counter.
    pub fn add(&self, more: &Value) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(more);
    }

    /// Returns the value.
    pub fn value(&self) -> Value {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Counters {
    /// Returns the counter of a key, which is new if there is room: `limits` are bytes of text in all, and in the namespace
    /// of the proxy.
    pub fn counter(&mut self, key: Key, limits: (usize, usize), now: u64) -> Option<Arc<Counter>> {
        if let Some(kept) = self.kept.get_mut(&key) {
            kept.used = now;
            return Some(Arc::clone(&kept.counter));
        }
        let bytes = key.bytes();
        let of_namespace = self.of_namespaces.get(key.calls.namespace()).copied().unwrap_or_default() + bytes;
        if self.bytes + bytes > limits.0 || of_namespace > limits.1 {
            return None;
        }
        let value = match key.answer {
            Some(_) => Value::Count(0),
            None => Value::Histogram(Box::default()),
        };
        let counter = Arc::new(Counter(Mutex::new(value)));
        self.bytes += bytes;
        self.of_namespaces.insert(key.calls.namespace().to_owned(), of_namespace);
        self.kept.insert(Arc::new(key), Kept { counter: Arc::clone(&counter), used: now });
        Some(counter)
    }

    /// Ends the counters that no proxy had a series of for [`KEPT`], and returns them.
    pub fn sweep(&mut self, now: u64) -> Vec<(Arc<Key>, Value)> {
        let Self { kept, bytes, of_namespaces } = self;
        of_namespaces.clear();
        *bytes = 0;
        let mut ended = Vec::new();
        kept.retain(|key, kept| {
            if Arc::strong_count(&kept.counter) > 1 {
                kept.used = now;
            }
            let is_kept = now.saturating_sub(kept.used) < KEPT;
            if is_kept {
                *bytes += key.bytes();
                *of_namespaces.entry(key.calls.namespace().to_owned()).or_default() += key.bytes();
            } else {
                ended.push((Arc::clone(key), kept.counter.value()));
            }
            is_kept
        });
        ended
    }

    /// Returns the keys of the counters, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.kept.keys()
    }

    /// Returns the counters with their values, in order.
    pub fn values(&self) -> Vec<(Arc<Key>, Value)> {
        self.kept.iter().map(|(key, kept)| (Arc::clone(key), kept.counter.value())).collect()
    }

    /// Returns the number of counters.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
