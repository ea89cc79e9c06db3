//! Meshes of several clusters → one mesh.
//!
//! Used by `Lowering`, for every cluster but the control plane's. Evaluates nothing.

use std::sync::Arc;

use smidge_mesh::{Map, Mesh, id::ServiceId, service::Service};

/// Adds the mesh of another cluster.
pub(super) fn add(mesh: &mut Mesh, other: &Mesh) {
    let trust = Arc::make_mut(&mut mesh.trust);
    for (domain, bundle) in &other.trust.bundles {
        trust.bundles.entry(domain.clone()).or_default().roots.extend(bundle.roots.iter().cloned());
    }
    for service in other.services.values() {
        merge(&mut mesh.services, service);
    }
    mesh.workloads.extend(other.workloads.iter().map(|(id, it)| (id.clone(), Arc::clone(it))));
    mesh.classes.extend(other.classes.iter().map(|(id, it)| (id.clone(), Arc::clone(it))));
    for (destination, more) in &other.grants {
        let grants = Arc::make_mut(mesh.grants.entry(destination.clone()).or_default());
        grants.extend(more.iter().cloned());
        grants.sort();
    }
}

/// Merges a Service. A Service that several clusters have is one Service: the first cluster with a port defines it, and
/// all clusters serve it.
fn merge(services: &mut Map<ServiceId, Service>, service: &Arc<Service>) {
    let Some(present) = services.get_mut(&service.id).map(Arc::make_mut) else {
        services.insert(service.id.clone(), Arc::clone(service));
        return;
    };
    present.identities.extend(service.identities.iter().cloned());
    for (number, port) in &service.ports {
        if let Some(present) = present.ports.get_mut(number) {
            present.addresses.extend(&port.addresses);
            present.servers.extend(port.servers.iter().cloned());
            present.endpoints.extend(port.endpoints.iter().cloned());
            present.endpoints.sort();
        } else {
            present.ports.insert(*number, port.clone());
        }
    }
}
