//! Decides when the connections of a TCP port must end: whenever a caller that was allowed no longer is.
//!
//! Envoy authorises a connection once. A mark in the name of the port's filter chain is renewed when the allowance
//! shrinks, so that Envoy replaces this chain, drains its connections, and leaves every other chain unchanged; callers
//! that are still allowed connect again. An allowance that grows renews nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use imbl::OrdMap;

use super::digest;
use crate::{
    envoy::{listener::inbound::Marks, names},
    index::Index,
    mesh::{
        Mesh,
        access::{MtlsMode, Payload},
        id::SpiffeId,
        proxy,
        workload::Class,
    },
};

/// The marks of a snapshot. Keyed by identity, not by class: a workload that gets another port has another class, and
/// that must not end the connections of its other ports.
#[derive(Debug, Clone, Default)]
pub(super) struct Drains(OrdMap<SpiffeId, BTreeMap<u16, Drain>>);

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
    /// Renews the marks of an identity from `mesh` and its previous marks.
    pub fn renew(&mut self, mesh: &Mesh, index: &Index, identity: &SpiffeId) {
        let mut now = BTreeMap::new();
        for class in index.classes(identity).filter_map(|class| mesh.classes.get(class)) {
            for port in tcp_ports(class) {
                let allowed = Allowed::of(mesh, class, port);
                // All classes of an identity have one access mode, as they are in one namespace; if that ever changes,
                // the stricter one decides, which drains more and never less.
                let merged = match now.remove(&port) {
                    Some(Allowed::Only(only)) => Allowed::Only(only),
                    _ => allowed,
                };
                now.insert(port, merged);
            }
        }
        let previous = self.0.remove(identity).unwrap_or_default();
        let drain = |(port, allowed): (u16, Allowed)| {
            let mark = allowed.mark(previous.get(&port));
            (port, Drain { allowed, mark })
        };
        let now: BTreeMap<u16, Drain> = now.into_iter().map(drain).collect();
        if !now.is_empty() {
            self.0.insert(identity.clone(), now);
        }
    }

    /// Returns the marks of one class.
    pub fn marks(&self, class: &Class) -> Marks {
        let Some(drains) = self.0.get(&class.identity) else { return Marks::new() };
        let mark = |port| Some((port, drains.get(&port)?.mark.clone()));
        tcp_ports(class).filter_map(mark).collect()
    }
}

fn tcp_ports(class: &Class) -> impl Iterator<Item = u16> {
    let tcp = class.ports.iter().filter(|(_, protocol)| protocol.has_tcp()).map(|(port, _)| *port);
    let others = (class.mtls == MtlsMode::Permissive).then_some(names::OTHER_PORTS);
    tcp.filter(|port| !proxy::PORTS.contains(port)).chain(others)
}

impl Allowed {
    fn of(mesh: &Mesh, class: &Class, port: u16) -> Self {
        if !class.access.is_enforced() {
            return Self::All;
        }
        if port == names::OTHER_PORTS {
            return Self::Only(BTreeSet::new());
        }
        let grants = mesh.grants_of(&class.identity).iter();
        let here = grants.filter(|grant| grant.payload == Payload::Any && grant.ports.contains(port));
        Self::Only(
            here.flat_map(|grant| grant.sources.iter().map(|source| SpiffeId::clone(source))).collect(),
        )
    }

    fn shrank_from(&self, earlier: &Self) -> bool {
        match (earlier, self) {
            (_, Self::All) => false,
            (Self::All, Self::Only(_)) => true,
            (Self::Only(earlier), Self::Only(now)) => !earlier.is_subset(now),
        }
    }

    /// Returns a digest of the allowance when it is first seen, so that replicas that start agree. After that, of the
    /// previous mark as well: an allowance that shrinks to what it once was must get a mark that it did not have.
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

/// Returns a digest that only distinguishes the marks of one port.
fn short_digest(text: &str) -> String {
    digest(text.as_bytes()).chars().take(12).collect()
}
