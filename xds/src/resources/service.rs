//! What one Service becomes in the pool. A function of the Service and the mesh's trust, and made anew only when one
//! of the two has changed.

use std::{collections::BTreeMap, sync::Arc};

use super::{Kept, Kind, Resource};
use crate::{
    envoy::{cluster, endpoints, filter, listener::outbound, names, route, tls},
    mesh::{
        service::{Protocol, Service, ServicePort},
        trust::Trust,
    },
};

/// The resources of one Service, and what they were made from.
pub(crate) struct ServicePart {
    service: Service,
    trust: Arc<Trust>,
    /// How its servers are judged; `None` while the mesh has no root.
    pub servers: Option<Arc<Resource>>,
    /// Its ports, by number.
    pub ports: BTreeMap<u16, PortPart>,
}

/// The resources of one port of a Service.
pub(crate) struct PortPart {
    /// The way there: a listener for each address, and the route or the filter that they ask for.
    pub entries: Vec<Arc<Resource>>,
    /// The own endpoints: the cluster and what it asks for.
    pub backend: [Arc<Resource>; 2],
}

impl ServicePart {
    pub(super) fn next(service: &Service, trust: &Arc<Trust>, previous: Option<&Arc<Self>>) -> Arc<Self> {
        match previous {
            Some(previous) if previous.service == *service && previous.trust == *trust => {
                Arc::clone(previous)
            }
            _ => {
                let kept = Kept::new(previous.into_iter().flat_map(|previous| previous.iter()));
                Arc::new(Self::new(service, trust, &kept))
            }
        }
    }

    fn new(service: &Service, trust: &Arc<Trust>, kept: &Kept) -> Self {
        let Service { id, ports, identities } = service;
        let servers = tls::servers(id, identities, trust)
            .map(|secret| kept.or_new(Resource::new(Kind::Secret, &secret.name, &secret)));
        let ports = ports.iter().map(|(number, port)| (*number, PortPart::new(service, *number, port, kept)));
        Self { servers, ports: ports.collect(), service: service.clone(), trust: Arc::clone(trust) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        let ports = self.ports.values().flat_map(|port| port.backend.iter().chain(&port.entries));
        self.servers.iter().chain(ports)
    }
}

impl PortPart {
    fn new(service: &Service, number: u16, port: &ServicePort, kept: &Kept) -> Self {
        let id = &service.id;
        let ServicePort { protocol, addresses, exact, servers: _, endpoints, route } = port;
        let cluster = cluster::service(id, number);
        let assignment = endpoints::endpoints(&cluster.name, endpoints);
        let mut entries: Vec<Resource> = addresses
            .iter()
            .map(|address| outbound::service(id, number, *protocol, *address))
            .map(|listener| Resource::new(Kind::Listener, &listener.name, &listener))
            .collect();
        entries.push(match protocol {
            Protocol::Http => {
                let route = route::service(id, number, *exact, &route.rules);
                Resource::new(Kind::Route, &route.name, &route)
            }
            Protocol::Tcp => {
                let filter = filter::split(id, number, *exact, &route.rules);
                Resource::new(Kind::Extension, &names::outbound_filter(id, number), &filter)
            }
        });
        if *exact {
            let cluster = cluster::dialled(id, number);
            entries.push(Resource::new(Kind::Cluster, &cluster.name, &cluster));
        }
        Self {
            entries: entries.into_iter().map(|resource| kept.or_new(resource)).collect(),
            backend: [
                kept.or_new(Resource::new(Kind::Cluster, &cluster.name, &cluster)),
                kept.or_new(Resource::new(Kind::Endpoints, &cluster.name, &assignment)),
            ],
        }
    }
}
