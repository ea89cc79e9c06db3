//! Publishes snapshots to streams: a snapshot notifies the streams that it affects and no other.
//!
//! Written by `operator::publish`, read by the streams. Holds the latest snapshot only: a slow stream reads the latest
//! one next, and there is no queue in between.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{mesh::id::ProxyId, snapshot::Recipients, view::View};

/// Function that returns a proxy's view in a snapshot. The same view as before is the same `Arc`.
type ViewOf<S> = fn(&S, &ProxyId) -> Option<Arc<View>>;

/// The latest snapshot, of type `S`, and its subscribers. Clones are the same hub.
pub struct SnapshotHub<S>(Arc<Inner<S>>);

struct Inner<S> {
    view_of: ViewOf<S>,
    latest: Mutex<Option<Arc<S>>>,
    subscribers: Mutex<HashMap<ProxyId, Vec<Arc<Notify>>>>,
}

impl<S> SnapshotHub<S> {
    /// Creates a hub without a snapshot; `view_of` returns a proxy's view in a snapshot.
    pub fn new(view_of: ViewOf<S>) -> Self {
        Self(Arc::new(Inner { view_of, latest: Mutex::default(), subscribers: Mutex::default() }))
    }

    /// Publishes a snapshot and notifies its recipients; returns the number of proxies that were notified. The first one must
    /// be for all: no stream has a view yet. `recipients` receives the number of subscribed proxies.
    pub fn publish<'a>(&self, snapshot: Arc<S>, recipients: impl FnOnce(usize) -> Recipients<'a>) -> usize {
        *lock(&self.0.latest) = Some(snapshot);
        let subscribers = lock(&self.0.subscribers);
        let mut notified = 0;
        let mut notify_all = |streams: &Vec<Arc<Notify>>| {
            for stream in streams {
                stream.notify_one();
            }
            notified += 1;
        };
        match recipients(subscribers.len()) {
            Recipients::All => subscribers.values().for_each(notify_all),
            Recipients::These(proxies) => {
                proxies.filter_map(|proxy| subscribers.get(proxy)).for_each(notify_all);
            }
            Recipients::Where(is_meant) => {
                subscribers
                    .iter()
                    .filter(|(proxy, _)| is_meant(proxy))
                    .for_each(|(_, streams)| notify_all(streams));
            }
        }
        notified
    }

    /// Subscribes a stream of `proxy`; the subscription is notified at once.
    pub(super) fn subscribe(&self, proxy: ProxyId) -> Subscription<S> {
        let notify = Arc::new(Notify::new());
        notify.notify_one();
        lock(&self.0.subscribers).entry(proxy.clone()).or_default().push(Arc::clone(&notify));
        Subscription { hub: Self(Arc::clone(&self.0)), proxy, notify }
    }
}

impl<S> Clone for SnapshotHub<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for SnapshotHub<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotHub")
            .field("subscribers", &lock(&self.0.subscribers).len())
            .finish_non_exhaustive()
    }
}

/// A stream's subscription; ends when it is dropped.
pub(super) struct Subscription<S> {
    hub: SnapshotHub<S>,
    proxy: ProxyId,
    notify: Arc<Notify>,
}

impl<S> Subscription<S> {
    /// Completes when there may be another view. Safe to drop before it completes.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Returns the proxy's view in the latest snapshot, if it is in one.
    pub fn view(&self) -> Option<Arc<View>> {
        let latest = lock(&self.hub.0.latest).clone()?;
        (self.hub.0.view_of)(&latest, &self.proxy)
    }
}

impl<S> Drop for Subscription<S> {
    fn drop(&mut self) {
        let mut subscribers = lock(&self.hub.0.subscribers);
        if let Some(streams) = subscribers.get_mut(&self.proxy) {
            streams.retain(|stream| !Arc::ptr_eq(stream, &self.notify));
            if streams.is_empty() {
                subscribers.remove(&self.proxy);
            }
        }
    }
}

/// Locks the mutex, poisoned or not: a panic of another holder leaves plain data behind, which is still valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
