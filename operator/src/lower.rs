//! Turns the objects of the clusters into one mesh, and into findings about what is wrong with them.
//!
//! Pure and total: any inputs yield a mesh. A defect in an object costs that object's own effect and yields a
//! finding; what cannot be read allows nothing. One file a Kubernetes or SMI noun; `publish` and the offline tools call
//! it. Does not know Envoy.

mod access;
mod endpoints;
pub mod regex;
mod route;
mod service;
mod settings;
mod shape;
mod split;
pub mod workload;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use smidge_xds::mesh::{
    Map, Mesh,
    access::Grant,
    id::{ClusterId, ServiceId, SpiffeId},
    route::Route,
    service::{Endpoint, Server, Service, ServicePort},
};

use self::{
    service::Known,
    settings::Settings,
    split::{Services, Split},
};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key},
};

/// The mesh of all clusters, and what is wrong with their objects, errors first.
pub fn lower(clusters: &BTreeMap<ClusterId, Inputs>) -> (Mesh, Vec<Finding>) {
    let mut mesh = Mesh::default();
    let mut findings = Vec::new();
    for (cluster, inputs) in clusters {
        add_cluster(cluster, inputs, &mut mesh, &mut findings);
    }
    findings.sort();
    findings.dedup();
    (mesh, findings)
}

/// The identities that each IdentityBinding of a cluster stands for.
pub(crate) fn bindings(inputs: &Inputs) -> BTreeMap<&Key, BTreeSet<SpiffeId>> {
    access::bindings(inputs, &mut Vec::new())
}

fn add_cluster(cluster: &ClusterId, inputs: &Inputs, mesh: &mut Mesh, findings: &mut Vec<Finding>) {
    add_trust(inputs, mesh);
    report_absent_kinds(inputs, findings);
    report_unreadable(inputs, findings);
    shape::report(inputs, findings);
    let settings = Settings::read(inputs, findings);
    let pods = workload::Pods::read(cluster, inputs);
    let routes = route::Routes::read(inputs, &settings, findings);
    let grants = access::grants(inputs, &routes, findings);
    let known = service::read(inputs, &pods, findings);
    let services: Services<'_> = known.iter().map(|known| (&known.id, known)).collect();
    let mut splits = split::read(inputs, &routes, &services, findings);
    splits.retain(|root, split| is_split_in_mesh(root, split, &services, findings));
    let cluster =
        ClusterReader { settings: &settings, grants: &grants, splits: &splits, services: &services };
    cluster.add_services(&known, mesh, findings);
    let served = service::served_ports(&known, findings);
    workload::add(&pods, &served, &settings, mesh, findings);
    for (destination, more) in grants {
        let grants = Arc::make_mut(mesh.grants.entry(destination).or_default());
        grants.extend(more);
        grants.sort();
    }
}

fn add_trust(inputs: &Inputs, mesh: &mut Mesh) {
    let trust = Arc::make_mut(&mut mesh.trust);
    trust.domain = inputs.trust_domain.clone();
    let bundle = trust.bundles.entry(inputs.trust_domain.clone()).or_default();
    bundle.roots.extend(inputs.roots.iter().cloned());
}

fn report_absent_kinds(inputs: &Inputs, findings: &mut Vec<Finding>) {
    findings.extend(inputs.absent_kinds.iter().map(|kind| {
        let object = ObjectRef::new("CustomResourceDefinition", "", kind);
        Finding::new(
            object,
            Reason::KindAbsent,
            "is not installed; the mesh goes on as if there were no object of it",
        )
        .hint("install the definitions that `smidge crds` prints")
    }));
}

fn report_unreadable(inputs: &Inputs, findings: &mut Vec<Finding>) {
    findings.extend(inputs.unreadable.iter().map(|((kind, (namespace, name)), error)| {
        let object = ObjectRef::new(kind, namespace, name);
        Finding::new(object, Reason::Malformed, format!("cannot be read and has no effect: {error}"))
    }));
}

fn is_split_in_mesh(
    root: &ServiceId,
    split: &Split<'_>,
    services: &Services<'_>,
    findings: &mut Vec<Finding>,
) -> bool {
    let is_root_in = services.get(root).is_some_and(|root| !root.members.is_empty());
    let is_in = is_root_in || split.backends(services).any(|backend| !backend.members.is_empty());
    if !is_in {
        findings.push(split.outside_mesh());
    }
    is_in
}

/// Puts the Services of one cluster into the mesh.
struct ClusterReader<'a> {
    settings: &'a Settings,
    grants: &'a BTreeMap<SpiffeId, Vec<Arc<Grant>>>,
    splits: &'a BTreeMap<ServiceId, Split<'a>>,
    services: &'a Services<'a>,
}

/// Which Service has an address and port, first come.
type Taken = BTreeMap<(IpAddr, u16), ServiceId>;

impl ClusterReader<'_> {
    /// `known` is sorted by age: the older Service keeps an address that a newer one claims as well.
    fn add_services(&self, known: &[Known<'_>], mesh: &mut Mesh, findings: &mut Vec<Finding>) {
        let needed = split::needed(self.splits, self.services);
        let mut taken = Taken::new();
        for known in known {
            let is_root = self.splits.contains_key(&known.id);
            if known.members.is_empty() && !is_root && !needed.contains(&known.id) {
                continue;
            }
            // One whose pods are all outside is there for a split's sake only: nobody who calls it directly notices.
            let is_called = !known.members.is_empty() || is_root || known.outside.is_empty();
            let service = self.service(known, is_called, &mut taken, findings);
            merge(&mut mesh.services, service);
        }
    }

    fn service(
        &self,
        known: &Known<'_>,
        is_called: bool,
        taken: &mut Taken,
        findings: &mut Vec<Finding>,
    ) -> Service {
        if !known.outside.is_empty() && !known.members.is_empty() {
            findings.push(mixed(known));
        }
        let claimed = if is_called { known.addresses() } else { BTreeSet::new() };
        let mut ports = BTreeMap::new();
        for (number, port) in &known.ports {
            let route = match self.splits.get(&known.id) {
                Some(split) => split.route(*number, port.protocol, self.services, findings),
                None => Route::own(known.id.clone()),
            };
            ports.insert(
                *number,
                ServicePort {
                    protocol: port.protocol,
                    addresses: claim(known, &claimed, *number, taken, findings),
                    exact: known.is_headless,
                    servers: servers(known, port),
                    endpoints: endpoints::of_port(known, port),
                    route,
                },
            );
        }
        add_dialled_ports(known, &claimed, &mut ports, taken, findings);
        Service { id: known.id.clone(), ports, identities: self.identities(known, findings) }
    }

    /// Who may serve: the accounts of the Service's pods, under enforcement those that a target is about. So a pod
    /// that slips behind the selector with an account of its own is refused by the clients.
    fn identities(&self, known: &Known<'_>, findings: &mut Vec<Finding>) -> BTreeSet<SpiffeId> {
        let all = workload::identities(known.members.iter().copied());
        if !self.settings.access(&known.id.namespace).is_enforced() {
            return all;
        }
        let (granted, refused): (BTreeSet<_>, BTreeSet<_>) =
            all.into_iter().partition(|identity| self.grants.contains_key(identity));
        if !granted.is_empty() && !refused.is_empty() {
            let accounts: Vec<&str> =
                refused.iter().map(|identity| identity.service_account.as_str()).collect();
            let message = format!(
                "some of its pods run as {}, which no TrafficTarget is about: clients refuse these pods",
                accounts.join(", ")
            );
            findings.push(
                Finding::new(known.object.clone(), Reason::IdentityRefused, message)
                    .at("spec.selector")
                    .hint("narrow the selector, or add a TrafficTarget for the account"),
            );
        }
        granted
    }
}

/// Nothing translates the port of a headless Service: who dials a pod's address dials the pod's port. A split of the
/// Service's port is about these calls as well.
fn add_dialled_ports(
    known: &Known<'_>,
    claimed: &BTreeSet<IpAddr>,
    ports: &mut BTreeMap<u16, ServicePort>,
    taken: &mut Taken,
    findings: &mut Vec<Finding>,
) {
    if !known.is_headless {
        return;
    }
    for port in known.ports.values() {
        let Some(route) = ports.get(&port.number).map(|port| port.route.clone()) else { continue };
        let mut endpoints: BTreeMap<u16, Vec<Endpoint>> = BTreeMap::new();
        for endpoint in endpoints::of_port(known, port) {
            endpoints.entry(endpoint.port).or_default().push(endpoint);
        }
        for server in servers(known, port) {
            let dialled = server.port;
            if known.ports.contains_key(&dialled) {
                continue;
            }
            let entry = ports.entry(dialled).or_insert_with(|| ServicePort {
                protocol: port.protocol,
                addresses: claim(known, claimed, dialled, taken, findings),
                exact: true,
                servers: BTreeSet::new(),
                endpoints: endpoints.remove(&dialled).unwrap_or_default(),
                route: dialled_route(known, port.number, &route),
            });
            entry.servers.insert(server);
        }
    }
}

/// The route of a Service's port for a call to the pod's own port: the Service's own share is the pod that was dialled.
fn dialled_route(known: &Known<'_>, number: u16, route: &Route) -> Route {
    let mut route = route.clone();
    for backend in route.rules.iter_mut().flat_map(|rule| &mut rule.backends) {
        if backend.service != known.id {
            backend.port = Some(number);
        }
    }
    route
}

/// Who is behind a port, ready or not.
fn servers(known: &Known<'_>, port: &service::Port<'_>) -> BTreeSet<Server> {
    endpoints::targets(known, port)
        .into_iter()
        .filter(|(_, port)| !workload::RESERVED_PORTS.contains(port))
        .map(|(member, port)| Server { identity: member.identity.clone(), port })
        .collect()
}

/// The addresses that nobody older has on this port.
fn claim(
    known: &Known<'_>,
    addresses: &BTreeSet<IpAddr>,
    number: u16,
    taken: &mut Taken,
    findings: &mut Vec<Finding>,
) -> BTreeSet<IpAddr> {
    let mut claimed = BTreeSet::new();
    for address in addresses {
        let owner = taken.entry((*address, number)).or_insert_with(|| known.id.clone());
        if *owner == known.id {
            claimed.insert(*address);
        } else {
            let message = format!(
                "the older Service {owner} has {address} with port {number}; calls to it are its own"
            );
            findings.push(Finding::new(known.object.clone(), Reason::AddressTaken, message));
        }
    }
    claimed
}

fn mixed(known: &Known<'_>) -> Finding {
    const SHOWN: usize = 3;
    let mut names = known.outside.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if known.outside.len() > SHOWN {
        names = format!("{names} and {} more", known.outside.len() - SHOWN);
    }
    let message = format!("not all of its endpoints are in the mesh: {names} get no traffic from the mesh");
    Finding::new(known.object.clone(), Reason::MixedService, message)
        .at("spec.selector")
        .hint("restart these pods so that they are injected")
}

/// A Service that several clusters have is one Service: the first cluster says what its ports are, all of them serve.
fn merge(services: &mut Map<ServiceId, Service>, service: Service) {
    let Some(present) = services.get_mut(&service.id).map(Arc::make_mut) else {
        services.insert(service.id.clone(), Arc::new(service));
        return;
    };
    present.identities.extend(service.identities);
    for (number, port) in service.ports {
        if let Some(present) = present.ports.get_mut(&number) {
            present.addresses.extend(port.addresses);
            present.servers.extend(port.servers);
            present.endpoints.extend(port.endpoints);
            present.endpoints.sort();
        } else {
            present.ports.insert(number, port);
        }
    }
}
