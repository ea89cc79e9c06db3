//! A session, the reference Envoy, the messages on the way between them, and the invariants that every response must keep.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use smidge_xds::{
    delta::{IDENTITY, Request, Response, Secret, SecretNeed, Session},
    resources::{Resource, ResourceType, Version},
    view::{Named, View},
};

use crate::delta_model::envoy::{BAD, Envoy};

type Key = (ResourceType, String);
/// A version, or that there is none.
type Content = Option<String>;

/// Resources that may exist: a cluster, its endpoints, a route and an outbound filter for each of two Services, and an
/// inbound side.
pub const NAMES: &[(ResourceType, &str)] = &[
    (ResourceType::Cluster, "a"),
    (ResourceType::Cluster, "b"),
    (ResourceType::Endpoints, "a"),
    (ResourceType::Endpoints, "b"),
    (ResourceType::Secret, "trust"),
    (ResourceType::Secret, IDENTITY),
    (ResourceType::Listener, "inbound"),
    (ResourceType::Listener, "outbound/a"),
    (ResourceType::Extension, "inbound/80/http"),
    (ResourceType::Extension, "inbound/90/tcp"),
    (ResourceType::Extension, "outbound/b"),
    (ResourceType::Route, "a"),
    (ResourceType::Route, "b"),
];

/// The texts of versions; the last is the first one with a drain mark.
pub const VERSIONS: &[Option<&str>] = &[None, Some("1"), Some("2"), Some(BAD), Some("1+mark")];

#[derive(Debug, Default)]
pub struct Model {
    pub envoy: Envoy,
    session: Session,
    up: VecDeque<Request>,
    down: VecDeque<Response>,
    view: BTreeMap<Key, String>,
    leaves: u32,
    /// Names that the client wants, as far as the server knows.
    interest: BTreeSet<Key>,
    wildcard: BTreeSet<ResourceType>,
    asked: BTreeSet<Key>,
    /// Last version of a name that was sent on this stream, or that the client brought along to it.
    sent: BTreeMap<Key, Content>,
    refused: BTreeMap<Key, Content>,
    unanswered: BTreeMap<ResourceType, (u64, Vec<(Key, Content)>)>,
    /// Clusters that were sent on this stream.
    warmed: BTreeSet<String>,
    owed_endpoints: BTreeSet<String>,
}

impl Model {
    pub fn new() -> Self {
        let mut model = Self::default();
        model.edit(&NAMES.iter().map(|(kind, name)| ((*kind, *name), Some("1"))).collect::<Vec<_>>());
        model.reconnect();
        model
    }

    pub fn edit(&mut self, edits: &[((ResourceType, &str), Option<&str>)]) {
        for ((kind, name), version) in edits {
            let key = (*kind, (*name).to_owned());
            match version {
                _ if *name == IDENTITY => {}
                Some(version) => drop(self.view.insert(key, (*version).to_owned())),
                None => drop(self.view.remove(&key)),
            }
        }
        self.session.on_view(self.current());
    }

    fn current(&self) -> Arc<View> {
        let resources = self.view.iter().map(|((kind, name), version)| {
            let name: Arc<str> = name.as_str().into();
            let (version, body) = (Version::new(version), Vec::new().into());
            ((*kind, Arc::clone(&name)), Arc::new(Resource { kind: *kind, name, version, body }))
        });
        Arc::new(View::from(resources.collect::<Named>()))
    }

    pub fn reconnect(&mut self) {
        let mut envoy = std::mem::take(&mut self.envoy);
        let (view, leaves) = (std::mem::take(&mut self.view), self.leaves);
        *self = Self { up: envoy.connect().into(), envoy, view, leaves, ..Self::default() };
        self.session.on_view(self.current());
    }

    pub fn say(&mut self, request: Request) {
        self.up.push_back(request);
    }

    /// Issues a new leaf certificate, whether it is due or not.
    pub fn renew(&mut self) {
        self.leaves += 1;
        let version = Version::new(&format!("leaf {}", self.leaves));
        self.session.on_secret(Secret::new(version, "chain", "key"));
    }

    /// Delivers one message to the server.
    pub fn server_reads(&mut self) {
        let Some(request) = self.up.pop_front() else { return };
        if let Some(kind) = ResourceType::from_type_url(&request.type_url) {
            self.note_answer(kind, &request);
            self.note_interest(kind, &request);
        }
        self.session.on_request(&request);
    }

    fn note_answer(&mut self, kind: ResourceType, request: &Request) {
        let Some((nonce, names)) = self.unanswered.remove(&kind) else { return };
        if nonce.to_string() != request.response_nonce {
            self.unanswered.insert(kind, (nonce, names));
        } else if request.error.is_some() {
            // The client read this response after all its earlier requests: it answers them.
            for (key, _) in &names {
                self.asked.remove(key);
            }
            self.refused.extend(names);
        }
    }

    fn note_interest(&mut self, kind: ResourceType, request: &Request) {
        for (name, version) in &request.initial_versions {
            self.sent.insert((kind, name.clone()), Some(version.clone()));
        }
        for name in &request.unsubscribe {
            let key = (kind, name.clone());
            if name == "*" {
                self.wildcard.remove(&kind);
            } else if self.interest.remove(&key) && self.wildcard.contains(&kind) {
                self.refused.remove(&key);
                self.asked.insert(key);
            } else if !self.wildcard.contains(&kind) {
                self.asked.remove(&key);
                self.sent.remove(&key);
                self.refused.remove(&key);
            }
        }
        let empty = request.subscribe.is_empty() && request.response_nonce.is_empty();
        if kind.is_wildcard() && empty && request.unsubscribe.is_empty() {
            self.wildcard.insert(kind);
        }
        for name in &request.subscribe {
            if name == "*" {
                self.wildcard.insert(kind);
                continue;
            }
            let key = (kind, name.clone());
            self.interest.insert(key.clone());
            self.refused.remove(&key);
            if kind == ResourceType::Endpoints && self.warmed.contains(name) {
                // The endpoints that the client holds are those of the cluster before.
                self.owed_endpoints.insert(name.clone());
            }
            if !request.initial_versions.contains_key(name) {
                self.asked.insert(key);
            }
        }
        let (interest, wildcard) = (&self.interest, &self.wildcard);
        let wanted = |key: &Key| wildcard.contains(&key.0) || interest.contains(key);
        self.owed_endpoints.retain(|name| interest.contains(&(ResourceType::Endpoints, name.clone())));
        self.sent.retain(|key, _| wanted(key) || request.initial_versions.contains_key(&key.1));
        self.refused.retain(|key, _| wanted(key));
    }

    /// Returns true if a cluster was sent whose endpoints were not sent after it (and exist, and may be sent).
    fn owes_endpoints(&self) -> bool {
        let exist = |name: &String| {
            let key = (ResourceType::Endpoints, name.clone());
            self.view.get(&key).is_some_and(|there| self.refused.get(&key) != Some(&Some(there.clone())))
        };
        !self.unanswered.contains_key(&ResourceType::Endpoints) && self.owed_endpoints.iter().any(exist)
    }

    /// Sends everything that the server has to send now, and checks every law.
    pub fn server_speaks(&mut self) {
        match self.session.secret_need() {
            SecretNeed::Nothing => {}
            SecretNeed::Judgement(held) if held.as_str() == format!("leaf {}", self.leaves) => {
                self.session.keep_secret();
            }
            SecretNeed::Judgement(_) | SecretNeed::Issue => self.renew(),
        }
        let mut last = 0;
        while let Some(response) = self.session.next_response() {
            self.check(&response, &mut last);
            self.down.push_back(response);
        }
        assert!(!self.owes_endpoints(), "endpoints not told again: {:?}", self.owed_endpoints);
    }

    fn check(&mut self, response: &Response, last: &mut usize) {
        let kind = response.kind;
        let updated: Vec<Key> = response.updated.iter().map(|item| (kind, item.name().to_owned())).collect();
        let removed: Vec<Key> = response.removed.iter().map(|name| (kind, name.to_string())).collect();
        let all: Vec<Key> = updated.iter().chain(&removed).cloned().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "a name twice in {response:?}");
        assert!(!self.unanswered.contains_key(&kind), "two responses at once: {response:?}");
        let is_policy = |name: &str| kind == ResourceType::Extension && name.starts_with("inbound/");
        assert!(all.len() < 2 || !updated.iter().any(|(_, name)| is_policy(name)), "not alone: {response:?}");
        let is_removal = removed.iter().any(|key| !self.asked.contains(key));
        let order = ResourceType::ALL.iter().position(|it| *it == kind).unwrap();
        let step = if is_removal { 2 * ResourceType::ALL.len() - order } else { order };
        assert!(step >= *last, "out of order: {response:?}");
        *last = step;
        if is_removal {
            assert!(updated.is_empty(), "removed too early: {response:?}");
            self.check_nothing_is_missing();
        }
        let warming = self.unanswered.contains_key(&ResourceType::Cluster);
        let waits = kind == ResourceType::Route
            || updated.iter().any(|key| kind == ResourceType::Extension && !is_policy(&key.1));
        assert!(!waits || !warming || updated.is_empty(), "before its clusters are warm: {response:?}");
        assert!(
            kind <= ResourceType::Endpoints || !self.owes_endpoints(),
            "before the endpoints: {response:?}"
        );
        for item in &response.updated {
            self.record((kind, item.name().to_owned()), Some(item.version().to_string()));
        }
        for key in &removed {
            self.record(key.clone(), None);
        }
        let sent = all.into_iter().map(|key| (key.clone(), self.sent[&key].clone())).collect();
        self.unanswered.insert(kind, (response.nonce, sent));
    }

    fn record(&mut self, key: Key, sent: Option<String>) {
        assert_ne!(self.refused.get(&key), Some(&sent), "told again after it was refused: {key:?}");
        self.refused.remove(&key);
        self.asked.remove(&key);
        if key.0 == ResourceType::Cluster && sent.is_some() {
            self.warmed.insert(key.1.clone());
        }
        let endpoints = (ResourceType::Endpoints, key.1.clone());
        if key.0 == ResourceType::Endpoints || (key.0 == ResourceType::Cluster && sent.is_none()) {
            self.owed_endpoints.remove(&key.1);
        } else if key.0 == ResourceType::Cluster && self.interest.contains(&endpoints) {
            self.owed_endpoints.insert(key.1.clone());
        }
        self.sent.insert(key, sent);
    }

    /// Checks make before break: a removal comes when the client has been sent everything else.
    fn check_nothing_is_missing(&self) {
        for (key, version) in &self.view {
            if !self.wildcard.contains(&key.0) && !self.interest.contains(key) {
                continue;
            }
            let sent = self.sent.get(key).cloned().flatten();
            let same =
                sent.as_ref().is_some_and(|sent| Version::new(version).is_held_as(&Version::new(sent)));
            let refused = self.refused.get(key) == Some(&Some(version.clone()));
            assert!(same || refused, "removed before {key:?} was told");
        }
    }

    /// Delivers one message to the client, which answers it.
    pub fn client_reads(&mut self) {
        if let Some(response) = self.down.pop_front() {
            let answer = self.envoy.read(&response);
            self.up.push_back(answer);
        }
    }

    /// Lets the time pass in which listeners drain.
    pub fn drain(&mut self) {
        self.session.on_drained();
    }

    /// Delivers all messages.
    pub fn deliver(&mut self) {
        for round in 0.. {
            assert!(round < 100, "no end of messages");
            while !self.up.is_empty() {
                self.server_reads();
            }
            self.server_speaks();
            if self.down.is_empty() {
                break;
            }
            while !self.down.is_empty() {
                self.client_reads();
            }
        }
    }

    /// Returns true if nothing is left to send, but for the removal of clusters that wait.
    pub fn is_settled(&mut self) -> bool {
        self.session.is_settled()
    }

    /// Delivers all messages, and lets clusters wait for their removal; the client must then have exactly what it may have.
    pub fn settle(&mut self) {
        self.deliver();
        while self.session.lingers() {
            self.drain();
            self.deliver();
        }
        assert!(self.envoy.awaited.is_empty(), "never answered: {:?}", self.envoy.awaited);
        let asked =
            [ResourceType::Cluster, ResourceType::Listener].iter().all(|kind| self.wildcard.contains(kind));
        assert!(!asked || self.session.is_settled(), "not settled: {:?}", self.session);
        for (kind, name) in NAMES {
            let key = (*kind, (*name).to_owned());
            let there = self.view.get(&key).filter(|_| self.envoy.is_interested(*kind, name));
            let there = match *name {
                IDENTITY => (self.interest.contains(&key)).then(|| format!("leaf {}", self.leaves)),
                _ => there.cloned(),
            };
            let held = self.envoy.held.get(&key).cloned();
            let base =
                |version: &Option<String>| version.as_ref().map(|v| v.split('+').next().map(str::to_owned));
            let refused = self.refused.get(&key) == Some(&there);
            assert!(refused || base(&held) == base(&there), "{key:?}: has {held:?} of {there:?}");
        }
    }

    /// Number of resources and removals that the server has sent on this stream.
    pub fn sent(&self) -> u64 {
        let counters = ResourceType::ALL.map(|kind| self.session.counters(kind));
        counters.iter().map(|counters| counters.updated + counters.removed).sum()
    }

    /// Returns true if the client still refuses something.
    pub fn refuses(&self) -> bool {
        !self.refused.is_empty()
    }
}
