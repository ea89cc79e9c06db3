//! Takes the pushes of this replica's proxies into the store, and answers from it.
//!
//! Called by `smidge_xds::server`, which has authenticated the proxy. Owns the store, and the time that it is given:
//! seconds since this replica started. Knows no other replica.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Bytes;
use smidge_traffic_metrics::{
    directory::{Directory, ProxyName},
    exchange::{self, Part},
    families::ended::Snapshot,
    store::{Limits, Store},
    traffic::Question,
};
use smidge_xds::{mesh::id::ProxyId, server::Reports};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::debug;

use super::metrics::Metrics;

/// Time between two sweeps.
const SWEEP: Duration = Duration::from_mins(1);

/// Store of this replica.
pub struct Receiver {
    store: Mutex<Store>,
    directory: Box<dyn Directory + Send + Sync>,
    metrics: Metrics,
    started: Instant,
}

impl Receiver {
    /// Creates an empty store, which looks objects up in `directory`.
    pub fn new(limits: Limits, directory: impl Directory + Send + Sync + 'static, metrics: Metrics) -> Self {
        let store = Mutex::new(Store::new(limits));
        Self { store, directory: Box::new(directory), metrics, started: Instant::now() }
    }

    /// Forgets what is older than the longest window, for ever.
    pub async fn sweep(&self) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let size = {
                let mut store = self.store();
                store.sweep(self.started.elapsed());
                store.size()
            };
            self.metrics.holds(size);
        }
    }

    /// Returns the part of an answer that this replica has. It computes, so it is for a thread that may block.
    pub fn part(&self, question: &Question) -> Part {
        let (now, mut part, mut last) = (self.started.elapsed(), Part::default(), None);
        loop {
            // Pushes need the store as well, and must not wait for a whole answer.
            let (page, end) = exchange::page(&self.store(), question, &*self.directory, now, last.as_ref());
            part.proxies.extend(page.proxies);
            if end.is_none() {
                return part;
            }
            last = end;
        }
    }

    /// Returns the counters for Prometheus.
    pub fn counters(&self) -> Snapshot {
        self.store().counters()
    }

    /// Returns where objects are looked up.
    pub fn directory(&self) -> &dyn Directory {
        &*self.directory
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // A panic within the store would be a bug; the figures of one proxy may be wrong after it.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reports for Receiver {
    fn report(&self, proxy: &ProxyId, message: Bytes) {
        let name = ProxyName {
            cluster: proxy.cluster.0.clone(),
            namespace: proxy.namespace.clone(),
            instance: proxy.instance.clone(),
        };
        let (dropped, size) = {
            let mut store = self.store();
            let dropped = store.report(&name, &message, &*self.directory, self.started.elapsed());
            (dropped, store.size())
        };
        if !dropped.is_empty() {
            debug!(%proxy, ?dropped, "statistics dropped");
        }
        self.metrics.received(message.len(), &dropped);
        self.metrics.holds(size);
    }
}
