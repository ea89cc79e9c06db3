//! Who is connected, and what each has taken or refused.
//!
//! Written by the streams, read by debug pages and by whoever reports what has arrived. Holds no secret and no body.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tokio::sync::watch;

use crate::{
    delta::{Refused, Session},
    mesh::id::{ProxyId, SpiffeId},
    metrics::short_name,
    resources::{Kind, Version},
    view::View,
};

/// The connected proxies. Clones are the same registry.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    /// Counts the changes of what anybody has acknowledged or refused.
    changes: watch::Sender<u64>,
    connected: Mutex<BTreeMap<u64, Arc<Mutex<Connected>>>>,
}

/// One stream.
#[derive(Debug, Clone, Serialize)]
pub struct Connected {
    /// Whose it is.
    pub proxy: ProxyId,
    /// What its certificate says.
    #[serde(serialize_with = "as_text")]
    pub identity: SpiffeId,
    /// Counts streams since the server started, so a higher number came later.
    pub stream: u64,
    /// Whether it has acknowledged all that it was to be told.
    pub settled: bool,
    /// The view that it was last settled with. What it has of it is what it acknowledged, but for what it refused.
    #[serde(skip)]
    pub acknowledged: Option<Arc<View>>,
    /// Names that it refused as they are now.
    #[serde(serialize_with = "as_names")]
    pub refused: Vec<(Kind, Arc<str>)>,
    /// What it said of each of them.
    #[serde(skip)]
    pub words: Words,
    /// Its last complaint.
    pub complaint: Option<String>,
    /// The version of its certificate, as far as known.
    #[serde(serialize_with = "as_version")]
    pub certificate: Option<Version>,
    /// Responses, resources, removals and refusals by kind.
    pub sent: BTreeMap<&'static str, [u64; 4]>,
}

/// A client's complaints, by what it refused.
pub type Words = Arc<BTreeMap<(Kind, Arc<str>), Arc<str>>>;

/// What one proxy has taken and refused.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Whose it is.
    pub proxy: ProxyId,
    /// The view that it was last settled with; it has all of that, but for what it refused.
    pub acknowledged: Option<Arc<View>>,
    /// What it refused, in its own words.
    pub refused: Words,
}

impl Proxies {
    /// What every connected proxy has taken and refused. Of several streams of one proxy the latest one speaks.
    pub fn answers(&self) -> Vec<Answer> {
        let connected: Vec<_> = lock(&self.0.connected).values().cloned().collect();
        let mut latest = BTreeMap::new();
        for connected in connected {
            let connected = lock(&connected);
            let Connected { proxy, acknowledged, words, .. } = &*connected;
            let (proxy, acknowledged) = (proxy.clone(), acknowledged.clone());
            let answer = Answer { proxy: proxy.clone(), acknowledged, refused: Arc::clone(words) };
            latest.insert(proxy, answer);
        }
        latest.into_values().collect()
    }

    /// Changes whenever what `answers` says may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn changed(&self) {
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    /// What is known of every connected proxy, in the order in which they came.
    pub fn list(&self) -> Vec<Connected> {
        let connected: Vec<_> = lock(&self.0.connected).values().cloned().collect();
        connected.iter().map(|connected| lock(connected).clone()).collect()
    }

    /// How many streams are connected.
    pub fn len(&self) -> usize {
        lock(&self.0.connected).len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn enter(&self, proxy: ProxyId, identity: SpiffeId) -> Entry {
        let stream = self.0.next.fetch_add(1, Ordering::Relaxed);
        let connected = Arc::new(Mutex::new(Connected {
            proxy,
            identity,
            stream,
            settled: false,
            acknowledged: None,
            refused: Vec::new(),
            words: Words::default(),
            complaint: None,
            certificate: None,
            sent: BTreeMap::new(),
        }));
        lock(&self.0.connected).insert(stream, Arc::clone(&connected));
        self.changed();
        Entry { proxies: self.clone(), stream, connected }
    }
}

/// A stream's own entry, removed when it ends.
#[derive(Debug)]
pub(super) struct Entry {
    proxies: Proxies,
    pub(super) stream: u64,
    connected: Arc<Mutex<Connected>>,
}

impl Entry {
    /// Writes down where the session is. Called when it has nothing more to say.
    pub(super) fn update(&self, session: &mut Session, certificate: Option<&Version>) {
        let settled = session.is_settled();
        let refused = session.refused();
        let mut connected = lock(&self.connected);
        connected.settled = settled;
        let mut changed = connected.refused != refused;
        if changed {
            let words = connected.words.iter().filter(|(key, _)| refused.contains(key));
            connected.words = Arc::new(words.map(|(key, words)| (key.clone(), Arc::clone(words))).collect());
        }
        connected.refused = refused;
        if settled && connected.acknowledged.as_ref().map(Arc::as_ptr) != session.view().map(Arc::as_ptr) {
            connected.acknowledged = session.view().cloned();
            changed = true;
        }
        connected.certificate = certificate.cloned();
        for kind in Kind::ALL {
            let counters = session.counters(kind);
            if counters.responses > 0 {
                let row = [counters.responses, counters.updated, counters.removed, counters.nacks];
                connected.sent.insert(short_name(kind), row);
            }
        }
        drop(connected);
        if changed {
            self.proxies.changed();
        }
    }

    pub(super) fn complain(&self, refused: &Refused) {
        let words: Arc<str> = Arc::from(refused.message.as_str());
        let mut connected = lock(&self.connected);
        connected.complaint = Some(refused.message.clone());
        let named = refused.names.iter().map(|name| ((refused.kind, Arc::clone(name)), Arc::clone(&words)));
        Arc::make_mut(&mut connected.words).extend(named);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.proxies.0.connected).remove(&self.stream);
        self.proxies.changed();
    }
}

/// A panic of another holder leaves plain data behind, which is as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn as_text<S: serde::Serializer>(value: &SpiffeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_names<S: serde::Serializer>(names: &[(Kind, Arc<str>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|(kind, name)| format!("{}:{name}", short_name(*kind))))
}

#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
fn as_version<S: serde::Serializer>(version: &Option<Version>, serializer: S) -> Result<S::Ok, S::Error> {
    version.as_ref().map(Version::as_str).serialize(serializer)
}
