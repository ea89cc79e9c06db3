//! A reference Envoy: what a delta client requests, holds, accepts and refuses. Independent of how a server works.

use std::collections::{BTreeMap, BTreeSet};

use smidge_xds::{
    delta::{ErrorDetail, Request, Response},
    resources::ResourceType,
};

/// The text of a version that this Envoy refuses, of any resource.
pub const BAD: &str = "bad";

#[derive(Debug, Default)]
pub struct Envoy {
    /// True if it wants every resource of a type, and the names that it wants besides.
    pub interest: BTreeMap<ResourceType, (bool, BTreeSet<String>)>,
    /// Versions that it holds.
    pub held: BTreeMap<(ResourceType, String), String>,
    /// Names that it has requested and has not received since.
    pub awaited: BTreeSet<(ResourceType, String)>,
}

impl Envoy {
    /// Returns the first messages of a stream: what it wants and what it has.
    pub fn connect(&mut self) -> Vec<Request> {
        for kind in [ResourceType::Cluster, ResourceType::Listener] {
            self.interest.entry(kind).or_insert((true, BTreeSet::new()));
        }
        self.awaited.clear();
        let mut requests = Vec::new();
        for (kind, (wildcard, names)) in self.interest.clone() {
            let held = self.held.iter().filter(|((of, _), _)| *of == kind);
            let initial_versions = held.map(|((_, name), version)| (name.clone(), version.clone())).collect();
            let mut subscribe: Vec<String> = names.into_iter().collect();
            self.awaited.extend(subscribe.iter().map(|name| (kind, name.clone())));
            self.awaited.retain(|key| !self.held.contains_key(key));
            if wildcard && !subscribe.is_empty() {
                subscribe.push("*".to_owned());
            }
            if wildcard || !subscribe.is_empty() {
                requests.push(Request { subscribe, initial_versions, ..about(kind) });
            }
        }
        requests
    }

    pub fn is_interested(&self, kind: ResourceType, name: &str) -> bool {
        self.interest.get(&kind).is_some_and(|(wildcard, names)| *wildcard || names.contains(name))
    }

    pub fn subscribe(&mut self, kind: ResourceType, name: &str) -> Request {
        self.interest.entry(kind).or_default().1.insert(name.to_owned());
        self.awaited.insert((kind, name.to_owned()));
        Request { subscribe: vec![name.to_owned()], ..about(kind) }
    }

    pub fn unsubscribe(&mut self, kind: ResourceType, name: &str) -> Request {
        let (wildcard, names) = self.interest.entry(kind).or_default();
        let had = names.remove(name);
        let key = (kind, name.to_owned());
        if !*wildcard {
            self.held.remove(&key);
            self.awaited.remove(&key);
        } else if had {
            self.awaited.insert(key);
        }
        Request { unsubscribe: vec![name.to_owned()], ..about(kind) }
    }

    /// Unsubscribes from everything that it did not name, or subscribes to it again.
    pub fn wildcard(&mut self, kind: ResourceType, on: bool) -> Request {
        let (wildcard, names) = self.interest.entry(kind).or_default();
        *wildcard = on;
        let star = vec!["*".to_owned()];
        if on {
            return Request { subscribe: star, ..about(kind) };
        }
        self.held.retain(|(of, name), _| *of != kind || names.contains(name));
        self.awaited.retain(|(of, name)| *of != kind || names.contains(name));
        Request { unsubscribe: star, ..about(kind) }
    }

    /// Accepts a response, or refuses it; returns its answer.
    pub fn read(&mut self, response: &Response) -> Request {
        let kind = response.kind;
        let bad = response.updated.iter().any(|item| item.version().as_str() == BAD);
        for item in &response.updated {
            let (name, version) = (item.name().to_owned(), item.version().to_string());
            self.awaited.remove(&(kind, name.clone()));
            // Wildcard types are accepted one by one; of the others, nothing of a response with a bad version.
            let taken = version != BAD && (!bad || kind.is_wildcard());
            if taken && self.is_interested(kind, &name) {
                self.held.insert((kind, name), version);
            }
        }
        for name in &response.removed {
            self.awaited.remove(&(kind, name.to_string()));
            self.held.remove(&(kind, name.to_string()));
        }
        let error = bad.then(|| ErrorDetail { message: "refused".to_owned() });
        Request { response_nonce: response.nonce.to_string(), error, ..about(kind) }
    }
}

fn about(kind: ResourceType) -> Request {
    Request { type_url: kind.type_url().to_owned(), ..Request::default() }
}
