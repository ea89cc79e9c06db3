//! Builds the resources of one Service in the pool. A function of the Service and of the mesh's trust and settings; parts
//! that a change of the Service does not touch are taken over.

use std::{collections::BTreeMap, sync::Arc};

use super::{Previous, Resource, ResourceType};
use crate::{
    envoy::{cluster, endpoints, filter, listener::outbound, names, route, tls},
    mesh::{
        Mesh,
        service::{Service, ServicePort},
        settings::Settings,
        trust::Trust,
    },
};

/// The resources of one Service.
pub(crate) struct ServicePart {
    /// Validation context of its servers; `None` while the mesh has no root.
    pub servers: Option<Arc<Resource>>,
    /// Its ports, by number.
    pub ports: BTreeMap<u16, PortPart>,
}

/// The resources of one port of a Service.
#[derive(Clone)]
pub(crate) struct PortPart {
    /// Entries of callers: a listener for each address, and the cluster for callers that dial an instance.
    listeners: Vec<Arc<Resource>>,
    /// The route, the filter, or both, to which the listeners refer.
    pub forwarding: Vec<Arc<Resource>>,
    /// The own endpoints: the cluster and its load assignment.
    pub backend: [Arc<Resource>; 2],
}

impl ServicePart {
    pub(super) fn new(service: &Service, mesh: &Mesh, kept: &Previous<'_>) -> Self {
        let ports = service.ports.iter();
        let ports = ports
            .map(|(number, port)| (*number, PortPart::new(service, *number, port, &mesh.settings, kept)));
        Self { servers: servers(service, &mesh.trust, kept), ports: ports.collect() }
    }

    /// Returns the part of `service` after `old`, under the same trust and settings.
    pub(super) fn next(
        service: &Service,
        mesh: &Mesh,
        kept: &Previous<'_>,
        (old, earlier): (&Arc<Service>, &Arc<Self>),
    ) -> Self {
        let servers = if old.identities == service.identities {
            earlier.servers.clone()
        } else {
            servers(service, &mesh.trust, kept)
        };
        let port = |number: &u16, port| {
            let before = old.ports.get(number).zip(earlier.ports.get(number));
            match before {
                Some(before) => PortPart::next(service, *number, port, &mesh.settings, kept, before),
                None => PortPart::new(service, *number, port, &mesh.settings, kept),
            }
        };
        Self { servers, ports: service.ports.iter().map(|(it, written)| (*it, port(it, written))).collect() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let ports = self.ports.values().flat_map(|port| port.backend.iter().chain(port.entries()));
        self.servers.iter().chain(ports)
    }
}

fn servers(service: &Service, trust: &Trust, kept: &Previous<'_>) -> Option<Arc<Resource>> {
    let secret = tls::servers(&service.id, &service.identities, trust)?;
    Some(kept.make(ResourceType::Secret, &secret.name, &secret))
}

impl PortPart {
    fn new(
        service: &Service,
        number: u16,
        port: &ServicePort,
        settings: &Settings,
        kept: &Previous<'_>,
    ) -> Self {
        let cluster = cluster::service(&service.id, number, settings);
        Self {
            listeners: listeners(service, number, port, settings, kept),
            forwarding: forwarding(service, number, port, settings, kept),
            backend: [
                kept.make(ResourceType::Cluster, &cluster.name, &cluster),
                assignment(service, number, port, kept),
            ],
        }
    }

    fn next(
        service: &Service,
        number: u16,
        port: &ServicePort,
        settings: &Settings,
        kept: &Previous<'_>,
        (old, earlier): (&ServicePort, &Self),
    ) -> Self {
        // The servers decide which proxies see the port, and are in no resource of it.
        let ServicePort { protocol, addresses, exact, servers: _, endpoints, route } = port;
        let is_read_alike = old.protocol == *protocol && old.exact == *exact;
        let listeners = if is_read_alike && old.addresses == *addresses {
            earlier.listeners.clone()
        } else {
            listeners(service, number, port, settings, kept)
        };
        let forwarding = if is_read_alike && old.route.rules == route.rules {
            earlier.forwarding.clone()
        } else {
            forwarding(service, number, port, settings, kept)
        };
        let [cluster, assigned] = earlier.backend.clone();
        let assigned =
            if old.endpoints == *endpoints { assigned } else { assignment(service, number, port, kept) };
        // A cluster depends on its name and the settings only.
        Self { listeners, forwarding, backend: [cluster, assigned] }
    }

    /// Returns the resources that lead to the port.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.listeners.iter().chain(&self.forwarding)
    }
}

fn assignment(service: &Service, number: u16, port: &ServicePort, kept: &Previous<'_>) -> Arc<Resource> {
    let name = names::service_port(&service.id, number);
    kept.make(ResourceType::Endpoints, &name, &endpoints::endpoints(&name, &port.endpoints))
}

fn listeners(
    service: &Service,
    number: u16,
    port: &ServicePort,
    settings: &Settings,
    kept: &Previous<'_>,
) -> Vec<Arc<Resource>> {
    let ServicePort { protocol, addresses, exact, .. } = port;
    let mut listeners: Vec<Arc<Resource>> = addresses
        .iter()
        .map(|address| outbound::service(&service.id, number, *protocol, *address, settings))
        .map(|listener| kept.make(ResourceType::Listener, &listener.name, &listener))
        .collect();
    if *exact {
        let cluster = cluster::dialled(&service.id, number, settings);
        listeners.push(kept.make(ResourceType::Cluster, &cluster.name, &cluster));
    }
    listeners
}

/// Builds what forwards the calls of a port: a route for requests, a filter for connections.
fn forwarding(
    service: &Service,
    number: u16,
    port: &ServicePort,
    settings: &Settings,
    kept: &Previous<'_>,
) -> Vec<Arc<Resource>> {
    let ServicePort { protocol, exact, route: rules, .. } = port;
    let mut forwarding = Vec::new();
    if protocol.has_http() {
        let route = route::service(&service.id, number, *exact, &rules.rules);
        forwarding.push(kept.make(ResourceType::Route, &route.name, &route));
    }
    if protocol.has_tcp() {
        let filter = filter::split(&service.id, number, *exact, &rules.rules, settings);
        forwarding.push(kept.make(
            ResourceType::Extension,
            &names::outbound_filter(&service.id, number),
            &filter,
        ));
    }
    forwarding
}
