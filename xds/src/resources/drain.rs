//! When the connections of a TCP port must end: whenever somebody who was allowed no longer is.
//!
//! Envoy judges a connection once. A mark in the name of the port's filter chain is renewed when the allowance
//! shrinks, so that Envoy replaces this chain, drains its connections, and leaves every other chain alone; those that
//! are still allowed connect again. An allowance that grows renews nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::digest;
use crate::{
    envoy::{listener::inbound::Marks, names},
    mesh::{
        Mesh,
        access::{MtlsMode, Payload},
        id::SpiffeId,
        service::Protocol,
        workload::Class,
    },
};

/// The marks of a snapshot. Keyed by identity, not by class: a workload that gets another port has another class, and
/// that must not end the connections of its other ports.
#[derive(Debug, Clone, Default)]
pub(super) struct Drains(BTreeMap<(SpiffeId, u16), Drain>);

#[derive(Debug, Clone)]
struct Drain {
    allowed: Allowed,
    mark: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    All,
    Only(BTreeSet<SpiffeId>),
}

impl Drains {
    /// The marks of `mesh` after those of `previous`.
    pub fn next(mesh: &Mesh, previous: Option<&Self>) -> Self {
        let mut now = BTreeMap::new();
        for class in mesh.classes.values() {
            for port in tcp_ports(class) {
                let key = (class.identity.clone(), port);
                let allowed = Allowed::of(mesh, class, port);
                // All classes of an identity have one access mode, as they are in one namespace; if that ever ends,
                // the stricter one decides, which drains more and never less.
                let merged = match now.remove(&key) {
                    Some(Allowed::Only(only)) => Allowed::Only(only),
                    _ => allowed,
                };
                now.insert(key, merged);
            }
        }
        let drain = |(key, allowed): ((SpiffeId, u16), Allowed)| {
            let earlier = previous.and_then(|previous| previous.0.get(&key));
            let mark = allowed.mark(earlier);
            (key, Drain { allowed, mark })
        };
        Self(now.into_iter().map(drain).collect())
    }

    /// The marks of one class.
    pub fn marks(&self, class: &Class) -> Marks {
        let mark = |port| Some((port, self.0.get(&(class.identity.clone(), port))?.mark.clone()));
        tcp_ports(class).filter_map(mark).collect()
    }
}

fn tcp_ports(class: &Class) -> impl Iterator<Item = u16> {
    let tcp = class.ports.iter().filter(|(_, protocol)| **protocol == Protocol::Tcp).map(|(port, _)| *port);
    let others = (class.mtls == MtlsMode::Permissive).then_some(names::OTHER_PORTS);
    tcp.filter(|port| !names::OWN_PORTS.contains(port)).chain(others)
}

impl Allowed {
    fn of(mesh: &Mesh, class: &Class, port: u16) -> Self {
        if !class.access.is_enforced() {
            return Self::All;
        }
        if port == names::OTHER_PORTS {
            return Self::Only(BTreeSet::new());
        }
        let grants = mesh.grants.get(&class.identity).into_iter().flatten();
        let here = grants.filter(|grant| grant.payload == Payload::Any && grant.ports.contains(port));
        Self::Only(here.flat_map(|grant| grant.sources.iter().cloned()).collect())
    }

    fn shrank_from(&self, earlier: &Self) -> bool {
        match (earlier, self) {
            (_, Self::All) => false,
            (Self::All, Self::Only(_)) => true,
            (Self::Only(earlier), Self::Only(now)) => !earlier.is_subset(now),
        }
    }

    /// A digest of the allowance when it is first seen, so that replicas that start agree. After that, of the mark
    /// before as well: an allowance that shrinks to what it once was must get a mark that it did not have.
    fn mark(&self, earlier: Option<&Drain>) -> String {
        match earlier {
            None => short_digest(&self.text()),
            Some(earlier) if self.shrank_from(&earlier.allowed) => {
                short_digest(&format!("{}\n{}", earlier.mark, self.text()))
            }
            Some(earlier) => earlier.mark.clone(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Only(sources) => sources.iter().fold(String::new(), |mut text, source| {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{source}");
                text
            }),
        }
    }
}

/// It tells two marks of one port apart, nothing more.
fn short_digest(text: &str) -> String {
    digest(text.as_bytes()).chars().take(12).collect()
}
