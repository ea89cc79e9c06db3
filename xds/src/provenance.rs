//! Which resources of a snapshot carry what an object of the user's says.
//!
//! Asked by whoever tells users whether proxies have taken what they wrote. Made of the mesh's own names (a grant's, a
//! Service's) and the pool; knows no kind of object, and does not say who sees a resource: a view does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    envoy::names,
    mesh::{access::AccessMode, id::ClassId, service::Protocol},
    resources::Resource,
    snapshot::Snapshot,
};

/// The resources that carry each grant, by the grant's name. A grant that nobody serves has an empty list; one that is
/// not in the mesh has none.
pub fn grants(snapshot: &Snapshot) -> BTreeMap<&str, Vec<Arc<Resource>>> {
    let mesh = snapshot.mesh();
    let mut carried: BTreeMap<&str, Vec<Arc<Resource>>> = mesh
        .grants
        .values()
        .flat_map(|grants| grants.iter())
        .map(|grant| (grant.name.as_str(), Vec::new()))
        .collect();
    for (id, class) in &mesh.classes {
        // Where everything is allowed, no policy says what a grant says.
        if class.access == AccessMode::Permissive {
            continue;
        }
        let made: HashMap<&str, &Arc<Resource>> =
            snapshot.resources().class(id).map(|resource| (&*resource.name, resource)).collect();
        for grant in mesh.grants_of(&class.identity) {
            let ports = class.ports.iter().filter(|(port, _)| grant.ports.contains(**port));
            let policies = ports.flat_map(|(port, protocol)| policies(*port, *protocol));
            let policies = policies.filter_map(|name| made.get(name.as_str()).copied().cloned());
            carried.entry(grant.name.as_str()).or_default().extend(policies);
        }
    }
    carried
}

fn policies(port: u16, protocol: Protocol) -> impl Iterator<Item = String> {
    let clients = (protocol == Protocol::Tcp).then(|| names::clients(port));
    std::iter::once(names::inbound_filter(port, protocol)).chain(clients)
}

/// The resources that carry each split that is in effect, by the split's name: they say where calls of its root go.
pub fn splits(snapshot: &Snapshot) -> BTreeMap<&str, Vec<Arc<Resource>>> {
    let mut carried: BTreeMap<&str, Vec<Arc<Resource>>> = BTreeMap::new();
    for (id, service) in &snapshot.mesh().services {
        for (number, port) in &service.ports {
            let Some(split) = &port.route.split else { continue };
            let made = snapshot.resources().service(id).and_then(|part| part.ports.get(number));
            carried.entry(split.as_str()).or_default().extend(made.map(|port| Arc::clone(&port.way)));
        }
    }
    carried
}

/// The whole inbound side of every class, which the mesh's own settings shape.
pub fn inbound(snapshot: &Snapshot) -> Vec<Arc<Resource>> {
    let classes: Vec<&ClassId> = snapshot.mesh().classes.keys().collect();
    classes.into_iter().flat_map(|class| snapshot.resources().class(class)).cloned().collect()
}
