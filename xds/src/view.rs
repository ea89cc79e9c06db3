//! What one proxy sees of the pool: for each type, the names it may know and the resource that each stands for.
//!
//! Made from a snapshot for a class of proxies; consumed by `delta::Session`. Contains nothing that its proxy may not
//! know, and no secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    mesh::{
        Mesh,
        access::AccessMode,
        id::{ClassId, ServiceId, SpiffeId},
        route::Backend,
        service::{Service, ServicePort},
    },
    resources::{Kind, Resource, Resources},
};

/// The resources of one proxy by type and name. Shared by all proxies of a class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The resources. Equality of two entries is decided by pointer first: snapshots reuse what did not change.
    pub resources: BTreeMap<(Kind, Arc<str>), Arc<Resource>>,
}

impl View {
    /// The resource of this name, if the proxy may know it.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&(kind, Arc::from(name)))
    }

    /// Whether both have the very same resources. A resource that did not change is the same one in every snapshot, so
    /// pointers decide.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.resources.len() == other.resources.len()
            && self.resources.iter().zip(&other.resources).all(|((_, a), (_, b))| Arc::ptr_eq(a, b))
    }

    /// The view with those of `replaced` in place that it has under their names; itself if it has none.
    pub(crate) fn with(view: &Arc<Self>, replaced: &[Arc<Resource>]) -> Arc<Self> {
        let mut view = Arc::clone(view);
        for resource in replaced {
            let key = (resource.kind, Arc::clone(&resource.name));
            if view.resources.get(&key).is_some_and(|held| !Arc::ptr_eq(held, resource)) {
                Arc::make_mut(&mut view).resources.insert(key, Arc::clone(resource));
            }
        }
        view
    }

    fn extend<'a>(&mut self, resources: impl IntoIterator<Item = &'a Arc<Resource>>) {
        for resource in resources {
            self.resources.insert((resource.kind, Arc::clone(&resource.name)), Arc::clone(resource));
        }
    }
}

/// Which ports of which Services each identity may call. Computed once for a mesh.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Those that everybody may call.
    everybody: BTreeSet<(ServiceId, u16)>,
    only: BTreeMap<SpiffeId, BTreeSet<(ServiceId, u16)>>,
}

impl Reach {
    /// An identity may call a port if somebody who serves it, by itself or as a backend, lets it in.
    pub fn new(mesh: &Mesh) -> Self {
        let mut reach = Self::default();
        let mut callers = Callers::new();
        let modes = mesh.classes.values().map(|class| (&class.identity, class.access)).collect();
        for (id, service) in &mesh.services {
            for (number, port) in &service.ports {
                for (identity, target, access) in servers(mesh, &modes, *number, port) {
                    let here = (id.clone(), *number);
                    if !access.is_enforced() {
                        reach.everybody.insert(here);
                        continue;
                    }
                    let callers = callers.entry((identity, target)).or_insert_with(|| {
                        let grants = mesh.grants.get(identity).into_iter().flatten();
                        let here = grants.filter(|grant| grant.ports.contains(target));
                        here.flat_map(|grant| &grant.sources).collect()
                    });
                    for caller in callers.iter() {
                        reach.only.entry((*caller).clone()).or_default().insert(here.clone());
                    }
                }
            }
        }
        reach
    }

    fn of(&self, identity: &SpiffeId) -> impl Iterator<Item = &(ServiceId, u16)> {
        self.everybody.iter().chain(self.only.get(identity).into_iter().flatten())
    }
}

/// Who may call an identity's port. Many Services may be served by one identity, whose grants are looked at once.
type Callers<'a> = BTreeMap<(&'a SpiffeId, u16), BTreeSet<&'a SpiffeId>>;

/// The identities that serve a port, each with the port on the instance and its access mode.
fn servers<'a>(
    mesh: &'a Mesh,
    modes: &BTreeMap<&SpiffeId, AccessMode>,
    number: u16,
    port: &'a ServicePort,
) -> BTreeSet<(&'a SpiffeId, u16, AccessMode)> {
    let backends = backends(port)
        .filter_map(|backend| mesh.services.get(&backend.service)?.ports.get(&backend.port(number)))
        .flat_map(|port| &port.servers);
    port.servers
        .iter()
        .chain(backends)
        .filter_map(|server| Some((&server.identity, server.port, *modes.get(&server.identity)?)))
        .collect()
}

/// Whether two states of a Service mean the same to `Reach`.
pub(crate) fn reaches_alike(before: &Service, now: &Service) -> bool {
    let of_port = |one: &ServicePort, other: &ServicePort| {
        let names = |port| backends(port).map(|backend| &backend.service);
        one.servers == other.servers && names(one).eq(names(other))
    };
    before.ports.len() == now.ports.len()
        && before.ports.iter().zip(&now.ports).all(|((a, one), (b, other))| a == b && of_port(one, other))
}

fn backends(port: &ServicePort) -> impl Iterator<Item = &Backend> {
    port.route.rules.iter().flat_map(|rule| &rule.backends)
}

/// The view of a class: what everybody sees, its own inbound side, and what its identity may call.
pub(crate) fn view(mesh: &Mesh, resources: &Resources, reach: &Reach, id: &ClassId) -> Option<View> {
    let class = mesh.classes.get(id)?;
    let mut view = View::default();
    view.extend(resources.shared());
    view.extend(resources.class(id));
    for (service, number) in reach.of(&class.identity) {
        let Some(called) = mesh.services.get(service).and_then(|service| service.ports.get(number)) else {
            continue;
        };
        let made = |id: &ServiceId, number: u16| {
            resources.service(id).and_then(|part| Some((part, part.ports.get(&number)?)))
        };
        view.extend(made(service, *number).into_iter().flat_map(|(_, port)| &port.entries));
        // Backends of weight 0 as well, so that a change of weights moves no cluster.
        let backends = backends(called).filter_map(|backend| made(&backend.service, backend.port(*number)));
        for (service, port) in backends {
            view.extend(&port.backend);
            view.extend(&service.servers);
        }
    }
    Some(view)
}
