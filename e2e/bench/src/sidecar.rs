//! State of one proxy: the part of an Envoy that communicates with the control plane, without I/O.
//!
//! Driven by `fleet`. It subscribes as Envoy does: clusters first; the endpoints and secrets that they name; listeners
//! once those have arrived; then the routes, extensions and secrets that those name. It acknowledges everything, and
//! when it reconnects it sends the correct initial versions. It uses nothing of what it receives.

use crate::{
    names::{Id, Names},
    wire::{Kind, Request, Response},
};

/// Name that never exists. A reconnecting proxy subscribes to it last: the answer that it does not exist shows that
/// every request before it has been processed, even if nothing had to be sent.
pub const PROBE: &str = "bench/probe/0";

/// Resources of one kind that a proxy holds: names with versions, sorted; version 0 is a name without an answer yet.
type Held = Vec<(Id, Id)>;

/// One proxy.
#[derive(Debug, Default)]
pub struct Sidecar {
    held: [Held; 6],
    /// Kinds that were subscribed to.
    opened: [bool; 6],
    /// Kinds that were answered.
    answered: [bool; 6],
    /// Number of names that have no answer yet.
    missing: usize,
}

/// Resource that a response has changed.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    pub kind: Kind,
    pub name: Id,
}

/// Messages to be sent.
pub type Outbox = Vec<Vec<u8>>;

impl Sidecar {
    /// Writes the first messages of a stream: a new proxy subscribes to clusters, a reconnecting one to everything that
    /// it holds.
    pub fn open(&mut self, node: &str, names: &mut Names, out: &mut Outbox) {
        let is_new = self.held.iter().all(Vec::is_empty);
        self.missing = 0;
        self.answered = [!is_new; 6];
        self.opened = [!is_new; 6];
        if is_new {
            self.ask(Kind::Cluster, &Request { node: Some(node), ..Request::default() }, out);
            return;
        }
        let probe = names.id(PROBE.as_bytes());
        self.put(Kind::Route, probe, 0);
        self.missing = 1;
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            let held = &self.held[number];
            let initial_versions = held.iter().filter(|(_, version)| *version != 0);
            let request = Request {
                node: (number == 0).then_some(node),
                subscribe: if kind.is_wildcard() {
                    vec!["*"]
                } else {
                    held.iter().map(|(name, _)| names.text(*name)).collect()
                },
                initial_versions: initial_versions
                    .map(|(name, version)| (names.text(*name), names.text(*version)))
                    .collect(),
                ..Request::default()
            };
            let mut message = Vec::new();
            request.write(kind, &mut message);
            out.push(message);
        }
    }

    fn ask(&mut self, kind: Kind, request: &Request<'_>, out: &mut Outbox) {
        self.opened[kind as usize] = true;
        let mut message = Vec::new();
        request.write(kind, &mut message);
        out.push(message);
    }

    /// Sets the version of a name, and returns the previous one; `None` if the name is new.
    fn put(&mut self, kind: Kind, name: Id, version: Id) -> Option<Id> {
        let held = &mut self.held[kind as usize];
        match held.binary_search_by_key(&name, |(name, _)| *name) {
            Ok(at) => held.get_mut(at).map(|entry| std::mem::replace(&mut entry.1, version)),
            Err(at) => {
                held.insert(at, (name, version));
                None
            }
        }
    }

    /// Accepts a response and acknowledges it; calls `changed` for every resource whose version differs from before.
    pub fn take(
        &mut self,
        response: &Response<'_>,
        names: &mut Names,
        out: &mut Outbox,
        mut changed: impl FnMut(Change),
    ) {
        let kind = response.kind;
        let mut wanted = Vec::new();
        for resource in &response.resources {
            let (name, version) = (names.id(resource.name), names.id(resource.version));
            let before = self.put(kind, name, version);
            if !kind.is_wildcard() && before == Some(0) {
                self.missing = self.missing.saturating_sub(1);
            }
            if before == Some(version) {
                continue;
            }
            changed(Change { kind, name });
            if kind.is_wildcard() {
                wanted.extend(names.references(kind, name, version, resource.body).iter().copied());
            }
        }
        self.remove(response, names);
        self.answered[kind as usize] = true;
        self.ask(kind, &Request { nonce: response.nonce, ..Request::default() }, out);
        self.follow(wanted, names, out);
    }

    fn remove(&mut self, response: &Response<'_>, names: &mut Names) {
        for name in &response.removed {
            let name = names.id(name);
            let held = &mut self.held[response.kind as usize];
            let Ok(at) = held.binary_search_by_key(&name, |(name, _)| *name) else { continue };
            // The proxy subscribed to it and it does not exist, which is an answer. The resource that named it stays,
            // and so does the subscription: no scenario removes clusters from connected proxies.
            let (_, version) = held.remove(at);
            if version == 0 {
                self.missing = self.missing.saturating_sub(1);
            }
        }
    }

    /// Subscribes to new names, and to listeners once everything that the clusters need has arrived.
    fn follow(&mut self, mut wanted: Vec<(Kind, Id)>, names: &Names, out: &mut Outbox) {
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|(kind, name)| {
            self.held[*kind as usize].binary_search_by_key(name, |(name, _)| *name).is_err()
        });
        for kind in [Kind::Endpoints, Kind::Secret, Kind::Extension, Kind::Route] {
            let new: Vec<Id> = wanted.iter().filter(|(of, _)| *of == kind).map(|(_, name)| *name).collect();
            if new.is_empty() {
                continue;
            }
            self.missing += new.len();
            let subscribe = new.iter().map(|name| names.text(*name)).collect();
            self.ask(kind, &Request { subscribe, ..Request::default() }, out);
            for name in new {
                self.put(kind, name, 0);
            }
        }
        let warm = self.answered[Kind::Cluster as usize] && self.missing == 0;
        if warm && !self.opened[Kind::Listener as usize] {
            self.ask(Kind::Listener, &Request::default(), out);
        }
    }

    /// Returns true if everything that was subscribed to has arrived.
    pub fn is_configured(&self) -> bool {
        self.answered[Kind::Cluster as usize] && self.answered[Kind::Listener as usize] && self.missing == 0
    }

    /// Returns the number of resources that it holds.
    pub fn holds(&self) -> usize {
        self.held.iter().flatten().filter(|(_, version)| *version != 0).count()
    }
}
