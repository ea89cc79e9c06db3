//! Index from users' objects to the resources of a snapshot that carry their content.
//!
//! Pure. Kept from snapshot to snapshot by `snapshot`, at the cost of what changed; read to report to users whether
//! proxies have acknowledged their objects. Made of the mesh's own names (of a grant, of a Service) and the pool; knows
//! no kind of object, and does not decide which proxies see a resource: the snapshot does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use imbl::OrdMap;

use crate::{
    envoy::names,
    mesh::{
        Mesh,
        access::AccessMode,
        change::{Change, Changes, changes},
        id::{ClassId, ServiceId, SpiffeId},
        service::{Protocol, Service},
        source::SourceRef,
    },
    resources::{Resource, Resources},
};

/// Location of a source in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// Among the grants of an identity, even if no workload has it. No resource is built for that alone.
    Identity(SpiffeId),
    /// On the inbound side of a class.
    Class(ClassId),
    /// In the route or filter that leads to a port of a Service.
    Port(ServiceId, u16),
}

/// Locations of one source, each with the resources there that carry it.
pub type Places = OrdMap<Location, Vec<Arc<Resource>>>;

/// Sources that are in effect, with their locations. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Provenance(OrdMap<SourceRef, Places>);

/// Part of the sources, to be compared with its previous state.
type Attributed = BTreeMap<(SourceRef, Location), Vec<Arc<Resource>>>;

impl Provenance {
    /// Returns the provenance after `changes`, which led from the one mesh and its pool to the other.
    pub(crate) fn next(
        &self,
        changes: &Changes<'_>,
        (before, earlier): (&Mesh, &Resources),
        (after, pool): (&Mesh, &Resources),
    ) -> Self {
        let mut next = self.clone();
        for Change { key, old, new } in &changes.services {
            let was = old.map(|service| routes(key, service, earlier)).unwrap_or_default();
            let is = new.map(|service| routes(key, service, pool)).unwrap_or_default();
            next.replace(&was, is);
        }
        for identity in changes.identities(after) {
            next.replace(&inbound(identity, before, earlier), inbound(identity, after, pool));
        }
        next
    }

    fn replace(&mut self, was: &Attributed, is: Attributed) {
        for (statement, place) in was.keys().filter(|key| !is.contains_key(key)) {
            let Some(places) = self.0.get_mut(statement) else { continue };
            places.remove(place);
            if places.is_empty() {
                self.0.remove(statement);
            }
        }
        for ((statement, place), resources) in is {
            let present = self.0.get(&statement).and_then(|places| places.get(&place));
            if present != Some(&resources) {
                self.0.entry(statement).or_default().insert(place, resources);
            }
        }
    }

    /// Returns the locations of a source; `None` if it is not in effect.
    pub fn places(&self, statement: &SourceRef) -> Option<&Places> {
        self.0.get(statement)
    }

    /// Returns the sources whose locations, or the resources there, have changed.
    pub(crate) fn since<'a>(
        &'a self,
        earlier: &'a Self,
    ) -> impl Iterator<Item = Change<'a, SourceRef, Places>> {
        changes(&earlier.0, &self.0)
    }
}

/// Returns true if both have resources of the same names at the same locations.
pub(crate) fn is_named_alike(old: &Places, new: &Places) -> bool {
    let names = |resources: &Vec<Arc<Resource>>| -> Vec<_> {
        resources.iter().map(|resource| (resource.kind, Arc::clone(&resource.name))).collect()
    };
    changes(old, new).all(|change| change.old.map(names) == change.new.map(names))
}

/// Returns the origins of the routes of a Service's ports, each with the resource that carries it.
fn routes(id: &ServiceId, service: &Service, pool: &Resources) -> Attributed {
    let mut stated = Attributed::new();
    for (number, port) in &service.ports {
        let made = pool.service(id).and_then(|part| part.ports.get(number));
        for origin in port.route.origins() {
            let resources = made.map(|port| port.forwarding.clone()).unwrap_or_default();
            stated.insert((origin.clone(), Location::Port(id.clone(), *number)), resources);
        }
    }
    stated
}

/// Returns what the classes of an identity are made of: its grants, and the objects that have its routes measured.
fn inbound(identity: &SpiffeId, mesh: &Mesh, pool: &Resources) -> Attributed {
    let mut stated = grants(identity, mesh, pool);
    for (id, class) in pool.index().classes(identity).filter_map(|id| Some((id, mesh.classes.get(id)?))) {
        for routes in &class.routes {
            let made = pool.class(id).filter(|resource| &*resource.name == names::INBOUND_ROUTES);
            stated.insert((routes.origin.clone(), Location::Class(id.clone())), made.cloned().collect());
        }
    }
    stated
}

/// Returns the grants of an identity, each with the resources of the classes of that identity that carry it.
fn grants(identity: &SpiffeId, mesh: &Mesh, pool: &Resources) -> Attributed {
    let mut stated = Attributed::new();
    let grants = mesh.grants_of(identity);
    for grant in grants {
        let place = Location::Identity(identity.clone());
        stated.insert((grant.origin.clone(), place), Vec::new());
    }
    let classes = pool.index().classes(identity).filter_map(|id| Some((id, mesh.classes.get(id)?)));
    // Where everything is allowed, no policy carries a grant.
    for (id, class) in classes.filter(|(_, class)| class.access != AccessMode::Permissive) {
        let made: HashMap<&str, &Arc<Resource>> =
            pool.class(id).map(|resource| (&*resource.name, resource)).collect();
        for grant in grants {
            let ports = class.ports.iter().filter(|(port, _)| grant.ports.contains(**port));
            let policies = ports.flat_map(|(port, protocol)| policies(*port, *protocol));
            let policies: Vec<_> =
                policies.filter_map(|name| made.get(name.as_str()).copied().cloned()).collect();
            if !policies.is_empty() {
                let key = (grant.origin.clone(), Location::Class(id.clone()));
                stated.entry(key).or_default().extend(policies);
            }
        }
    }
    stated
}

fn policies(port: u16, protocol: Protocol) -> impl Iterator<Item = String> {
    let http = protocol.has_http().then(|| names::inbound_http(port));
    let tcp = protocol.has_tcp().then(|| [names::inbound_tcp(port), names::clients(port)]);
    http.into_iter().chain(tcp.into_iter().flatten())
}
