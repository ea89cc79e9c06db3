//! Registry of the connected proxies, with what each has acknowledged or refused.
//!
//! Written by the streams, read by debug pages and by reports of acknowledgements. Holds no secret and no body.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tokio::sync::{Notify, oneshot};

use super::versions::EnvoyVersion;
use crate::{
    delta::{Refused, Session},
    mesh::id::{ProxyId, SpiffeId},
    metrics::short_name,
    resources::{ResourceType, Version},
    view::View,
};

/// The connected proxies. Clones share the registry.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    connected: Mutex<Streams>,
    followers: Mutex<Vec<Weak<Updates>>>,
}

#[derive(Debug, Default)]
struct Streams {
    by_number: BTreeMap<u64, Arc<Mutex<Connected>>>,
    /// Numbers of each proxy's streams. A stream without its sender was notified to end.
    by_proxy: HashMap<ProxyId, BTreeMap<u64, Option<oneshot::Sender<()>>>>,
}

/// Maximum number of streams of a proxy that continue: one, and another while the first one ends, which may take long
/// if its connection broke unnoticed.
const STREAMS: usize = 2;
/// Maximum number of streams of a proxy, including those that were notified to end and did not.
const UNENDED: usize = 8;

/// State of one stream.
#[derive(Debug, Clone, Serialize)]
pub struct Connected {
    /// Proxy of the stream.
    pub proxy: ProxyId,
    /// Identity in its certificate.
    #[serde(serialize_with = "as_text")]
    pub identity: SpiffeId,
    /// Version of its Envoy as it has named it, for example 1.40.0.
    pub envoy: Option<EnvoyVersion>,
    /// Number of the stream since the server started: a higher number connected later.
    pub stream: u64,
    /// True if it has acknowledged everything that was to be sent.
    pub settled: bool,
    /// View with which it was last settled. It has acknowledged this view, except for what it refused.
    #[serde(skip)]
    pub acknowledged: Option<Arc<View>>,
    /// Names that it refused in their current version, with the message of its NACK for each.
    #[serde(serialize_with = "as_names")]
    pub refused: NackMessages,
    /// Message of its last NACK.
    pub last_error: Option<String>,
    /// The version of its certificate, if known.
    #[serde(serialize_with = "as_version")]
    pub certificate: Option<Version>,
    /// Numbers of responses, resources, removals and NACKs, by kind.
    pub sent: BTreeMap<&'static str, [u64; 4]>,
}

impl Connected {
    /// Drops refusals that no longer hold, as another version was sent or the name is no longer wanted. Returns true if
    /// it dropped any.
    fn forget_taken(&mut self, session: &Session) -> bool {
        if self.refused.is_empty() {
            return false;
        }
        let refused: BTreeSet<_> = session.refused().collect();
        let is_taken = |key: &(ResourceType, Arc<str>)| !refused.contains(key);
        let has_news = self.refused.keys().any(is_taken);
        if has_news {
            Arc::make_mut(&mut self.refused).retain(|key, _| !is_taken(key));
        }
        has_news
    }
}

/// Messages of a client's NACKs, by the kind and name that it refused.
pub type NackMessages = Arc<BTreeMap<(ResourceType, Arc<str>), Arc<str>>>;

/// Acknowledgement state of one proxy.
#[derive(Debug, Clone)]
pub struct AckState {
    /// View with which it was settled. It has everything of users' objects there, except for what it refused; its
    /// endpoints may be later ones.
    pub acknowledged: Option<Arc<View>>,
    /// Names that it refused, with the messages of its NACKs.
    pub refused: NackMessages,
}

/// Reports the proxies whose acknowledgement state has changed.
#[derive(Debug)]
pub struct AckWatcher {
    proxies: Proxies,
    updates: Arc<Updates>,
}

/// Proxies that have answered since a watcher last took them.
#[derive(Debug, Default)]
struct Updates {
    answered: Mutex<BTreeSet<ProxyId>>,
    notify: Notify,
}

impl AckWatcher {
    /// Completes when a proxy has answered, connected or disconnected. Safe to drop before it completes.
    pub async fn changed(&self) {
        self.updates.notify.notified().await;
    }

    /// Returns the proxies whose state may have changed since the last call, at first all; `None` for a proxy that is
    /// gone. Of several streams of one proxy the latest one counts.
    pub fn take(&self) -> BTreeMap<ProxyId, Option<AckState>> {
        let answered = std::mem::take(&mut *lock(&self.updates.answered));
        let answer = |proxy| (self.proxies.answer(&proxy), proxy);
        answered.into_iter().map(answer).map(|(answer, proxy)| (proxy, answer)).collect()
    }
}

impl Proxies {
    /// Returns a watcher of the answers of proxies. An acknowledgement of a view that differs in clusters and endpoints
    /// only is not reported: it may occur as often as endpoints change.
    pub fn follow(&self) -> AckWatcher {
        let updates = Arc::new(Updates::default());
        lock(&self.0.followers).push(Arc::downgrade(&updates));
        lock(&updates.answered).extend(lock(&self.0.connected).by_proxy.keys().cloned());
        updates.notify.notify_one();
        AckWatcher { proxies: self.clone(), updates }
    }

    fn answer(&self, proxy: &ProxyId) -> Option<AckState> {
        let latest = {
            let connected = lock(&self.0.connected);
            let (stream, _) = connected.by_proxy.get(proxy)?.last_key_value()?;
            Arc::clone(connected.by_number.get(stream)?)
        };
        let latest = lock(&latest);
        Some(AckState { acknowledged: latest.acknowledged.clone(), refused: Arc::clone(&latest.refused) })
    }

    fn changed(&self, proxy: &ProxyId) {
        lock(&self.0.followers).retain(|follower| {
            let Some(updates) = follower.upgrade() else { return false };
            lock(&updates.answered).insert(proxy.clone());
            updates.notify.notify_one();
            true
        });
    }

    /// Returns the state of every stream, in the order in which they connected.
    pub fn list(&self) -> Vec<Connected> {
        let connected: Vec<_> = lock(&self.0.connected).by_number.values().cloned().collect();
        connected.iter().map(|connected| lock(connected).clone()).collect()
    }

    /// Returns the number of connected proxies by the version that each has named. Of several streams of one proxy the
    /// latest one counts.
    pub fn versions(&self) -> BTreeMap<Option<EnvoyVersion>, usize> {
        let latest: Vec<_> = {
            let connected = lock(&self.0.connected);
            let streams = connected.by_proxy.values().filter_map(|own| own.last_key_value());
            streams.filter_map(|(stream, _)| connected.by_number.get(stream).cloned()).collect()
        };
        let mut versions = BTreeMap::new();
        for connected in latest {
            *versions.entry(lock(&connected).envoy).or_default() += 1;
        }
        versions
    }

    /// Returns the number of connected streams.
    pub fn len(&self) -> usize {
        lock(&self.0.connected).by_number.len()
    }

    /// Returns true if no proxy is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an entry for a new stream, and ends the oldest ones of a proxy that has many; `None` if too many do not
    /// end.
    pub(super) fn enter(&self, proxy: ProxyId, identity: SpiffeId) -> Option<Entry> {
        let stream = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (goes_on, replaced) = oneshot::channel();
        let connected = Arc::new(Mutex::new(Connected {
            proxy: proxy.clone(),
            identity,
            envoy: None,
            stream,
            settled: false,
            acknowledged: None,
            refused: NackMessages::default(),
            last_error: None,
            certificate: None,
            sent: BTreeMap::new(),
        }));
        {
            let mut streams = lock(&self.0.connected);
            let own = streams.by_proxy.entry(proxy.clone()).or_default();
            if own.len() >= UNENDED {
                return None;
            }
            own.insert(stream, Some(goes_on));
            let older = own.len().saturating_sub(STREAMS);
            own.values_mut().take(older).for_each(|goes_on| *goes_on = None);
            streams.by_number.insert(stream, Arc::clone(&connected));
        }
        self.changed(&proxy);
        Some(Entry { proxies: self.clone(), proxy, stream, connected, replaced })
    }
}

/// Entry of a stream, removed when the stream ends.
#[derive(Debug)]
pub(super) struct Entry {
    proxies: Proxies,
    proxy: ProxyId,
    pub(super) stream: u64,
    connected: Arc<Mutex<Connected>>,
    /// Completes, with an error, when newer streams of the proxy replace this one.
    pub(super) replaced: oneshot::Receiver<()>,
}

impl Entry {
    /// Records the state of the session. Returns true if it is settled. Called when it has nothing more to send.
    pub(super) fn update(&self, session: &mut Session, certificate: Option<&Version>) -> bool {
        let settled = session.is_settled();
        let mut connected = lock(&self.connected);
        connected.settled = settled;
        let mut changed = connected.forget_taken(session);
        if settled && connected.acknowledged.as_ref().map(Arc::as_ptr) != session.view().map(Arc::as_ptr) {
            let before = std::mem::replace(&mut connected.acknowledged, session.view().cloned());
            changed |= session.take_restated() || before.is_none();
        }
        connected.certificate = certificate.cloned();
        for kind in ResourceType::ALL {
            let counters = session.counters(kind);
            let row = [counters.responses, counters.updated, counters.removed, counters.nacks];
            if counters.responses > 0 && connected.sent.get(short_name(kind)) != Some(&row) {
                connected.sent.insert(short_name(kind), row);
            }
        }
        drop(connected);
        if changed {
            self.proxies.changed(&self.proxy);
        }
        settled
    }

    /// Records the version that the proxy has named.
    pub(super) fn record_version(&self, envoy: Option<EnvoyVersion>) {
        lock(&self.connected).envoy = envoy;
    }

    pub(super) fn record_nack(&self, refused: &Refused) {
        let words: Arc<str> = Arc::from(refused.message.as_str());
        let mut connected = lock(&self.connected);
        connected.last_error = Some(refused.message.clone());
        let named = refused.names.iter().map(|name| ((refused.kind, Arc::clone(name)), Arc::clone(&words)));
        Arc::make_mut(&mut connected.refused).extend(named);
        drop(connected);
        self.proxies.changed(&self.proxy);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        {
            let mut streams = lock(&self.proxies.0.connected);
            streams.by_number.remove(&self.stream);
            if let Some(own) = streams.by_proxy.get_mut(&self.proxy) {
                own.remove(&self.stream);
                if own.is_empty() {
                    streams.by_proxy.remove(&self.proxy);
                }
            }
        }
        self.proxies.changed(&self.proxy);
    }
}

/// Locks the mutex, poisoned or not: a panic of another holder leaves plain data behind, which is still valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn as_text<S: serde::Serializer>(value: &SpiffeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_names<S: serde::Serializer>(refused: &NackMessages, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(refused.keys().map(|(kind, name)| format!("{}:{name}", short_name(*kind))))
}

#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
fn as_version<S: serde::Serializer>(version: &Option<Version>, serializer: S) -> Result<S::Ok, S::Error> {
    version.as_ref().map(Version::as_str).serialize(serializer)
}
