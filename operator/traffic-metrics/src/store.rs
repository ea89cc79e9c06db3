//! Keeps what proxies have counted, for every window up to an hour, in bounded memory.
//!
//! Pure: time is a parameter. Fed by `operator::traffic::receiver` with the pushes of this replica's proxies; read by
//! `exchange`, for this replica and for others. `proxy` turns cumulative values into differences, `slots` keeps these by
//! time, `run` has what joins the parts of several replicas; `counters` sums up for Prometheus. The bounds are those of [`Limits`]; what exceeds them is
//! dropped and counted. The reasons for this design are in docs/design/021-traffic-store.md.

pub mod proxy;
pub mod run;
pub mod slots;

use std::{collections::BTreeMap, ops::Bound, time::Duration};

use crate::{
    counters::Counters,
    directory::{Directory, ProxyName},
    families::ended::{Ended, Snapshot},
    series::{self, Defect},
};
use proxy::{Proxy, Push};
use slots::LONGEST;

/// Shortest and longest window that is answered; others are changed to these. A push each 10 s allows no shorter one.
pub const WINDOWS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(LONGEST));

/// Maximum length of the page with counters under all four sets of names, in bytes: what one client can be sent has 64 MiB.
const PAGE_BYTES: usize = 60 << 20;

/// Bounds of a store.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum number of proxies. Default 20,000.
    pub proxies: usize,
    /// Maximum number of series of one proxy. Default 4,096.
    pub series: usize,
    /// Maximum number of flows of one proxy whose peers are distinguished; calls beyond have none. Default 512.
    pub flows: usize,
    /// Maximum memory of all proxies, in bytes. Default 256 MiB: 1,000 proxies with 20 peers each that call all the time
    /// take half of it.
    pub bytes: usize,
    /// Maximum memory of the proxies of one namespace, in bytes. Default 128 MiB.
    pub namespace_bytes: usize,
    /// Maximum length of the page with the counters for Prometheus, under one set of names, in bytes. Default 15 MiB, so
    /// that the page with four sets has 60 MiB at most: about 1,400 pairs of workloads for each replica.
    pub counter_bytes: usize,
    /// Maximum share of the counters of the proxies of one namespace, in bytes. Default a quarter.
    pub namespace_counter_bytes: usize,
    /// True to keep counters of each pod as well, within the same bounds once more. Default false.
    pub pod_counters: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            proxies: 20_000,
            series: 4_096,
            flows: 512,
            bytes: 256 << 20,
            namespace_bytes: 128 << 20,
            counter_bytes: PAGE_BYTES / 4,
            namespace_counter_bytes: PAGE_BYTES / 16,
            pod_counters: false,
        }
    }
}

impl Limits {
    /// Returns the limits with counters of pods: these and each set of names have 12 MiB, so that the page is no longer.
    pub fn with_pod_counters() -> Self {
        let (counter_bytes, namespace_counter_bytes) = (PAGE_BYTES / 5, PAGE_BYTES / 20);
        Self { counter_bytes, namespace_counter_bytes, pod_counters: true, ..Self::default() }
    }
}

/// Reason for which something of a push is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The message is malformed: it ends early.
    Message,
    /// A point cannot be used.
    Point(Defect),
    /// A point is older than the previous push.
    OutOfOrder,
    /// The proxy has too many series.
    Series,
    /// The proxies of the namespace, or all of them, take too much memory.
    Bytes,
    /// There are too many proxies.
    Proxies,
    /// There are too many counters for Prometheus, in the namespace or in all. Windows have the point.
    Counters,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::Message,
        Self::Point(Defect::Malformed),
        Self::Point(Defect::UnknownMetric),
        Self::Point(Defect::NotCumulative),
        Self::Point(Defect::Bounds),
        Self::Point(Defect::LabelTooLong),
        Self::OutOfOrder,
        Self::Series,
        Self::Bytes,
        Self::Proxies,
        Self::Counters,
    ];

    /// Returns the reason as the value of a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "MalformedMessage",
            Self::Point(Defect::Malformed) => "MalformedPoint",
            Self::Point(Defect::UnknownMetric) => "UnknownMetric",
            Self::Point(Defect::NotCumulative) => "NotCumulative",
            Self::Point(Defect::Bounds) => "OtherBounds",
            Self::Point(Defect::LabelTooLong) => "LabelTooLong",
            Self::OutOfOrder => "OutOfOrder",
            Self::Series => "TooManySeries",
            Self::Bytes => "TooManyBytes",
            Self::Proxies => "TooManyProxies",
            Self::Counters => "TooManyCounters",
        }
    }
}

/// Numbers of what was dropped of a push, by reason.
pub type Dropped = BTreeMap<DropReason, u64>;

/// Content of a store, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Number of proxies.
    pub proxies: usize,
    /// Number of series.
    pub series: usize,
    /// Memory, in bytes, as it is counted for the bounds.
    pub bytes: usize,
    /// Number of counters for Prometheus.
    pub counters: usize,
}

/// Store of one replica.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    proxies: BTreeMap<ProxyName, Proxy>,
    size: Size,
    namespaces: BTreeMap<String, usize>,
    counters: Counters,
    pod_counters: Counters,
    ended: Ended,
}

impl Store {
    /// Creates an empty store.
    pub fn new(limits: Limits) -> Self {
        let (proxies, namespaces) = (BTreeMap::new(), BTreeMap::new());
        let (counters, pod_counters) = (Counters::default(), Counters::default());
        let (size, ended) = (Size::default(), Ended::default());
        Self { limits, proxies, size, namespaces, counters, pod_counters, ended }
    }

    /// Returns what it holds.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Takes a push of a proxy: a message of OTLP, received at `now` since any fixed time. Returns what was dropped.
    pub fn report(
        &mut self,
        name: &ProxyName,
        message: &[u8],
        directory: &dyn Directory,
        now: Duration,
    ) -> Dropped {
        let mut dropped = Dropped::new();
        let room = self.room(&name.namespace);
        let is_known = self.proxies.contains_key(name);
        let refusal = match (is_known, self.proxies.len() < self.limits.proxies) {
            (false, false) => Some(DropReason::Proxies),
            _ if room == 0 => Some(DropReason::Bytes),
            _ => None,
        };
        if let Some(reason) = refusal {
            return Dropped::from([(reason, 1)]);
        }
        let proxy = self.proxies.entry(name.clone()).or_default();
        let before = if is_known { (proxy.series(), proxy.bytes()) } else { (0, 0) };
        if let Some(instance) = directory.instance(name) {
            proxy.set_instance(instance);
        }
        let (limits, counters) = (&self.limits, &mut self.counters);
        let pod_counters = limits.pod_counters.then_some(&mut self.pod_counters);
        let mut push = Push { name, now: now.as_secs(), limits, room, counters, pod_counters, directory };
        let read = series::decode(message, |point| {
            let taken = match point {
                Ok(point) => proxy.take(&point, &mut push),
                Err(defect) => Err(DropReason::Point(defect)),
            };
            if let Err(reason) = taken {
                *dropped.entry(reason).or_default() += 1;
            }
        });
        // Envoy sends a push without series as a message without content.
        if message.is_empty() {
            proxy.take_empty(now.as_secs());
        }
        if read.is_err() {
            *dropped.entry(DropReason::Message).or_default() += 1;
        }
        let after = (proxy.series(), proxy.bytes());
        self.resize(&name.namespace, before, after);
        // A proxy that has pushed nothing of use takes nothing.
        if after.0 == 0 && self.proxies.get(name).is_some_and(|proxy| proxy.received().is_none()) {
            self.remove(name);
        }
        self.resize_all();
        dropped
    }

    /// Forgets the proxies that have not pushed for the longest window. Called from time to time.
    pub fn sweep(&mut self, now: Duration) {
        let is_gone =
            |proxy: &Proxy| proxy.received().is_none_or(|received| received + LONGEST < now.as_secs());
        let gone: Vec<ProxyName> =
            self.proxies.iter().filter(|(_, proxy)| is_gone(proxy)).map(|(name, _)| name.clone()).collect();
        for name in &gone {
            self.remove(name);
        }
        let mut changed = Vec::new();
        for (name, proxy) in &mut self.proxies {
            let before = (proxy.series(), proxy.bytes());
            proxy.age(now.as_secs());
            changed.push((name.namespace.clone(), before, (proxy.series(), proxy.bytes())));
        }
        for (namespace, before, after) in changed {
            self.resize(&namespace, before, after);
        }
        for counters in [&mut self.counters, &mut self.pod_counters] {
            let ended = counters.sweep(now.as_secs());
            self.ended.take(&ended, counters.keys());
        }
        self.resize_all();
    }

    /// Returns the counters for Prometheus: those of workloads, and those of pods if they are kept.
    pub fn counters(&self) -> Snapshot {
        let counters = [self.counters.values(), self.pod_counters.values()].concat();
        Snapshot { counters, ended: self.ended.clone() }
    }

    fn resize_all(&mut self) {
        self.size.proxies = self.proxies.len();
        self.size.counters = self.counters.len() + self.pod_counters.len();
    }

    /// Returns the proxies after `after`, or all of them, in order.
    pub fn proxies_after(&self, after: Option<&ProxyName>) -> impl Iterator<Item = (&ProxyName, &Proxy)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.proxies.range::<ProxyName, _>((start, Bound::Unbounded))
    }

    /// Returns the bytes that a proxy of this namespace may add.
    fn room(&self, namespace: &str) -> usize {
        let taken = self.namespaces.get(namespace).copied().unwrap_or_default();
        let of_namespace = self.limits.namespace_bytes.saturating_sub(taken);
        self.limits.bytes.saturating_sub(self.size.bytes).min(of_namespace)
    }

    fn remove(&mut self, name: &ProxyName) {
        if let Some(proxy) = self.proxies.remove(name) {
            self.resize(&name.namespace, (proxy.series(), proxy.bytes()), (0, 0));
        }
    }

    /// Replaces the share of a proxy, series and bytes, in the sums.
    fn resize(&mut self, namespace: &str, before: (usize, usize), after: (usize, usize)) {
        let replace = |sum: usize, before: usize, after: usize| (sum + after).saturating_sub(before);
        self.size.series = replace(self.size.series, before.0, after.0);
        self.size.bytes = replace(self.size.bytes, before.1, after.1);
        let of_namespace = self.namespaces.get(namespace).copied().unwrap_or_default();
        match replace(of_namespace, before.1, after.1) {
            0 => self.namespaces.remove(namespace),
            bytes => self.namespaces.insert(namespace.to_owned(), bytes),
        };
    }
}
