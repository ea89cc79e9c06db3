//! Where what is published hangs out, and who waits for it: a change wakes the streams that it concerns and no other.
//!
//! Filled by `operator::publish`, read by the streams. Holds the latest snapshot only; a stream that is slow finds the
//! latest one when it looks again, and no queue in between.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{mesh::id::ProxyId, snapshot::Wake, view::View};

/// A proxy's view in a snapshot. The same view as before is the same `Arc`.
type Look<S> = fn(&S, &ProxyId) -> Option<Arc<View>>;

/// The latest snapshot, of type `S`, and who waits for the next. Clones are the same board.
pub struct Board<S>(Arc<Inner<S>>);

struct Inner<S> {
    look: Look<S>,
    latest: Mutex<Option<Arc<S>>>,
    waiting: Mutex<HashMap<ProxyId, Vec<Arc<Notify>>>>,
}

impl<S> Board<S> {
    /// An empty board; `look` finds a proxy's view in what is put up later.
    pub fn new(look: Look<S>) -> Self {
        Self(Arc::new(Inner { look, latest: Mutex::default(), waiting: Mutex::default() }))
    }

    /// Puts up a snapshot and wakes those whom it concerns. Nobody waits for the first one by name, so it must be for all.
    /// `whom` is told how many proxies wait.
    pub fn publish<'a>(&self, snapshot: Arc<S>, whom: impl FnOnce(usize) -> Wake<'a>) {
        *lock(&self.0.latest) = Some(snapshot);
        let waiting = lock(&self.0.waiting);
        let wake = |streams: &Vec<Arc<Notify>>| streams.iter().for_each(|stream| stream.notify_one());
        match whom(waiting.len()) {
            Wake::All => waiting.values().for_each(wake),
            Wake::These(proxies) => proxies.filter_map(|proxy| waiting.get(proxy)).for_each(wake),
            Wake::Where(is_meant) => {
                waiting.iter().filter(|(proxy, _)| is_meant(proxy)).for_each(|(_, streams)| wake(streams));
            }
        }
    }

    /// A place at the board for a stream of `proxy`, which is told at once of what is there.
    pub(super) fn wait(&self, proxy: ProxyId) -> Waiting<S> {
        let woken = Arc::new(Notify::new());
        woken.notify_one();
        lock(&self.0.waiting).entry(proxy.clone()).or_default().push(Arc::clone(&woken));
        Waiting { board: Self(Arc::clone(&self.0)), proxy, woken }
    }
}

impl<S> Clone for Board<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Board<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("waiting", &lock(&self.0.waiting).len()).finish_non_exhaustive()
    }
}

/// A stream's place, given up when it is dropped.
pub(super) struct Waiting<S> {
    board: Board<S>,
    proxy: ProxyId,
    woken: Arc<Notify>,
}

impl<S> Waiting<S> {
    /// Completes when there may be another view. May be dropped half way.
    pub async fn changed(&self) {
        self.woken.notified().await;
    }

    /// The proxy's view in the latest snapshot, if it is in one.
    pub fn view(&self) -> Option<Arc<View>> {
        let latest = lock(&self.board.0.latest).clone()?;
        (self.board.0.look)(&latest, &self.proxy)
    }
}

impl<S> Drop for Waiting<S> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.board.0.waiting);
        if let Some(streams) = waiting.get_mut(&self.proxy) {
            streams.retain(|stream| !Arc::ptr_eq(stream, &self.woken));
            if streams.is_empty() {
                waiting.remove(&self.proxy);
            }
        }
    }
}

/// A panic of another holder leaves plain data behind, which is as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
