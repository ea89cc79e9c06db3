//! Index from identity to the ports of Services that it may call.
//!
//! Pure. Made from a mesh and kept from mesh to mesh by `snapshot`: only Services that a change touches are computed
//! again. `view` reads from it what a proxy sees. Does not decide which requests are allowed at a port; the grants do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::{OrdMap, OrdSet};

use crate::{
    index::{self, Index},
    mesh::{
        Mesh,
        access::AccessMode,
        change::{Change, Changes, changes},
        id::{ServiceId, SpiffeId},
        route::Backend,
        service::{Service, ServicePort},
    },
};

/// Ports that each identity may call. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    callers: OrdMap<ServiceId, Arc<Callers>>,
    /// Ports that every identity may call.
    every_identity: OrdSet<(ServiceId, u16)>,
    only: OrdMap<SpiffeId, OrdSet<(ServiceId, u16)>>,
    /// Services that an identity serves.
    served: OrdMap<SpiffeId, OrdSet<ServiceId>>,
    /// Services that send to a backend.
    roots: OrdMap<ServiceId, OrdSet<ServiceId>>,
}

/// Callers of the ports of one Service.
#[derive(Debug, Default, PartialEq, Eq)]
struct Callers {
    every_identity: BTreeSet<u16>,
    only: BTreeMap<SpiffeId, BTreeSet<u16>>,
}

/// Identities whose reach differs after a change.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub every_identity: bool,
    pub identities: BTreeSet<SpiffeId>,
}

impl Reach {
    /// Returns the reach after `changes`, which led to `mesh`, and the identities whose reach differs.
    pub fn next(&self, mesh: &Mesh, index: &Index, changes: &Changes<'_>) -> (Self, Moved) {
        let mut next = self.clone();
        let mut due = BTreeSet::new();
        for change in changes.services.iter().filter(|change| !is_reached_alike(change)) {
            next.reindex(change);
            due.insert(change.key.clone());
        }
        for identity in changes.identities(mesh) {
            due.extend(next.served.get(identity).into_iter().flatten().cloned());
        }
        let roots: Vec<ServiceId> = due.iter().flat_map(|service| next.roots(service)).cloned().collect();
        due.extend(roots);
        let mut moved = Moved::default();
        let mut access = AccessIndex { mesh, index, allowed_sources: BTreeMap::new() };
        for service in &due {
            next.renew(&mut access, service, &mut moved);
        }
        (next, moved)
    }

    /// Returns the ports that every identity may call.
    pub fn every_identity(&self) -> impl Iterator<Item = &(ServiceId, u16)> {
        self.every_identity.iter()
    }

    /// Returns the ports that `identity` may call in addition to those that every identity may call.
    pub fn of(&self, identity: &SpiffeId) -> impl Iterator<Item = &(ServiceId, u16)> {
        self.only.get(identity).into_iter().flatten()
    }

    /// Returns the identities that may call a port; `None` means every identity.
    pub fn callers<'a>(&'a self, service: &ServiceId, number: u16) -> Option<Vec<&'a SpiffeId>> {
        let Some(callers) = self.callers.get(service) else { return Some(Vec::new()) };
        if callers.every_identity.contains(&number) {
            return None;
        }
        let only = callers.only.iter().filter(|(_, ports)| ports.contains(&number));
        Some(only.map(|(identity, _)| identity).collect())
    }

    /// Returns the Services whose callers differ from those in `earlier`.
    pub fn since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = &'a ServiceId> {
        changes(&earlier.callers, &self.callers).map(|change| change.key)
    }

    /// Returns true if every identity sees something of a Service, because it may call it or one that sends to it.
    pub fn is_seen_by_every_identity(&self, service: &ServiceId) -> bool {
        self.seen_through(service).any(|callers| !callers.every_identity.is_empty())
    }

    /// Returns the identities that see something of a Service, because they may call it or a Service that sends to it.
    pub fn viewers<'a>(&'a self, service: &'a ServiceId) -> impl Iterator<Item = &'a SpiffeId> {
        self.seen_through(service).flat_map(|callers| callers.only.keys())
    }

    fn seen_through<'a>(&'a self, service: &'a ServiceId) -> impl Iterator<Item = &'a Arc<Callers>> {
        let all = std::iter::once(service).chain(self.roots(service));
        all.filter_map(|service| self.callers.get(service))
    }

    fn roots<'a>(&'a self, backend: &ServiceId) -> impl Iterator<Item = &'a ServiceId> + use<'a> {
        self.roots.get(backend).into_iter().flatten()
    }

    /// Updates the identities that serve a Service and the backends to which it sends.
    fn reindex(&mut self, change: &Change<'_, ServiceId, Arc<Service>>) {
        for port in change.old.into_iter().flat_map(|service| service.ports.values()) {
            for server in &port.servers {
                index::remove(&mut self.served, &server.identity, change.key);
            }
            for backend in backends(port) {
                index::remove(&mut self.roots, &backend.service, change.key);
            }
        }
        for port in change.new.into_iter().flat_map(|service| service.ports.values()) {
            for server in &port.servers {
                self.served.entry(server.identity.clone()).or_default().insert(change.key.clone());
            }
            for backend in backends(port).filter(|backend| backend.service != *change.key) {
                self.roots.entry(backend.service.clone()).or_default().insert(change.key.clone());
            }
        }
    }

    fn renew(&mut self, access: &mut AccessIndex<'_>, id: &ServiceId, moved: &mut Moved) {
        let now = access.mesh.services.get(id).map(|service| access.callers(service)).unwrap_or_default();
        let before = self.callers.remove(id).unwrap_or_default();
        if *before != now {
            let ports = |callers: &Callers, identity| callers.only.get(identity).cloned().unwrap_or_default();
            let identities: BTreeSet<&SpiffeId> = before.only.keys().chain(now.only.keys()).collect();
            for identity in identities {
                let (old, new) = (ports(&before, identity), ports(&now, identity));
                if old != new {
                    let mut set = self.only.remove(identity).unwrap_or_default();
                    replace(&mut set, id, &old, &new);
                    if !set.is_empty() {
                        self.only.insert(identity.clone(), set);
                    }
                    moved.identities.insert(identity.clone());
                }
            }
            if before.every_identity != now.every_identity {
                replace(&mut self.every_identity, id, &before.every_identity, &now.every_identity);
                moved.every_identity = true;
            }
        }
        if now != Callers::default() {
            self.callers.insert(id.clone(), Arc::new(now));
        }
    }
}

fn replace(set: &mut OrdSet<(ServiceId, u16)>, id: &ServiceId, old: &BTreeSet<u16>, new: &BTreeSet<u16>) {
    for port in old.difference(new) {
        set.remove(&(id.clone(), *port));
    }
    for port in new.difference(old) {
        set.insert((id.clone(), *port));
    }
}

/// Returns true if a change of a Service leaves its servers, its ports, and the Services to which it sends unchanged.
pub(crate) fn is_reached_alike(change: &Change<'_, ServiceId, Arc<Service>>) -> bool {
    let (Some(old), Some(new)) = (change.old, change.new) else { return false };
    let place = |backend: &'_ Backend| (backend.service.clone(), backend.port);
    let sends_alike = |old, new| backends(old).map(place).eq(backends(new).map(place));
    old.ports.len() == new.ports.len()
        && old.ports.iter().zip(&new.ports).all(|((number, old), (same, new))| {
            number == same && old.servers == new.servers && sends_alike(old, new)
        })
}

/// Index of the sources that a server's port allows. Many Services may be served by one identity, whose grants are read
/// once.
struct AccessIndex<'a> {
    mesh: &'a Mesh,
    index: &'a Index,
    allowed_sources: BTreeMap<(&'a SpiffeId, u16), BTreeSet<&'a SpiffeId>>,
}

impl<'a> AccessIndex<'a> {
    /// Returns the callers of a Service: an identity may call a port if a server of it or of one of its backends allows
    /// it.
    fn callers(&mut self, service: &'a Service) -> Callers {
        let mut callers = Callers::default();
        for (number, port) in &service.ports {
            for (identity, target, access) in self.servers(*number, port) {
                if !access.is_enforced() {
                    callers.every_identity.insert(*number);
                    continue;
                }
                let mesh = self.mesh;
                let allowed_sources = self.allowed_sources.entry((identity, target)).or_insert_with(|| {
                    let here = mesh.grants_of(identity).iter().filter(|grant| grant.ports.contains(target));
                    here.flat_map(|grant| grant.sources.iter().map(|source| &**source)).collect()
                });
                for source in allowed_sources.iter() {
                    callers.only.entry((*source).clone()).or_default().insert(*number);
                }
            }
        }
        callers
    }

    /// Returns the identities that serve a port, each with the port on the instance and its access mode.
    fn servers(&self, number: u16, port: &'a ServicePort) -> BTreeSet<(&'a SpiffeId, u16, AccessMode)> {
        let (mesh, index) = (self.mesh, self.index);
        let backends = backends(port)
            .filter_map(|backend| mesh.services.get(&backend.service)?.ports.get(&backend.port(number)))
            .flat_map(|port| &port.servers);
        let mode = |identity| {
            let class = index.classes(identity).last()?;
            mesh.classes.get(class).map(|class| class.access)
        };
        port.servers
            .iter()
            .chain(backends)
            .filter_map(|server| Some((&server.identity, server.port, mode(&server.identity)?)))
            .collect()
    }
}

/// Returns the backends to which a port sends.
pub(crate) fn backends(port: &ServicePort) -> impl Iterator<Item = &Backend> {
    port.route.rules.iter().flat_map(|rule| &rule.backends)
}
