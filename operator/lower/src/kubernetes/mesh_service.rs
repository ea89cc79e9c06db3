//! Turns the Services of the cluster into those of the mesh: the addresses under which they are called, the identities
//! that serve them, and the routes of calls.
//!
//! A Service is in the mesh if one of its pods is, if it is the root or a backend of a split, or if its namespace is in
//! the mesh and either accepts only mTLS or has no pod for it, in the mesh or not. An address and port belong to the
//! oldest Service that claims them. `split` decides where a split sends a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use smidge_mesh::{
    access::MtlsMode,
    id::{ServiceId, SpiffeId},
    route::Route,
    service::{Endpoint, Service, ServicePort},
};

use super::protocol;
use crate::{
    context::Context,
    finding::{Finding, Reason},
    inputs::Key,
    kinds::ROUTE_SOURCES,
    node::Node,
    route_source,
    value::{KubeService, Splits, Value},
};

/// Returns the addresses and ports on which a Service would be called; `None` if it is not in the mesh.
pub(crate) fn claimed_addresses(
    id: &ServiceId,
    context: &mut Context<'_>,
) -> Option<BTreeSet<(IpAddr, u16)>> {
    let known = context.kube_service(id)?;
    let is_root = context.has_split(id);
    let is_held = is_held(&known, context);
    if known.members.is_empty() && !is_root && !is_held && !context.is_sent_to(id) {
        return None;
    }
    // One whose pods are all outside is there only because a split sends to it; its direct callers are not affected.
    let is_called = !known.members.is_empty() || is_root || is_held || !known.has_outside();
    if !is_called {
        return Some(BTreeSet::new());
    }
    let (called, is_excluded) = (known.called_ports(), known.excluded());
    let claims: BTreeSet<(IpAddr, u16)> = known
        .addresses()
        .into_iter()
        .flat_map(|address| called.keys().map(move |number| (address, *number)))
        .filter(|(address, number)| !is_excluded(*address, *number))
        .collect();
    let age = Value::Age(known.age().into());
    for (address, number) in &claims {
        context.contribute_part(Node::AddressOwner(*address, *number), age.clone());
    }
    Some(claims)
}

/// Returns true if a Service is in the mesh without any member: its namespace is, and accepts only mTLS, so that a call
/// never goes to it in plaintext only because its injected pods are gone; or the Service has no pod at all, as one that
/// is scaled to 0, and its callers get an answer with the reason. Endpoints that a Service does not select are not pods
/// of the namespace.
fn is_held(known: &KubeService, context: &mut Context<'_>) -> bool {
    let namespace = &known.id.namespace;
    let is_empty = known.members.is_empty() && !known.has_outside();
    known.has_selector
        && context.injects(namespace)
        && (is_empty || context.modes(namespace).1 == MtlsMode::Strict)
}

/// Returns the Service that owns an address and port: the oldest of those that claim it.
pub(crate) fn owner(context: &mut Context<'_>) -> Option<ServiceId> {
    let claimants = context.contributors();
    claimants.iter().filter_map(|it| context.claimant(it)).min().map(|(_, id)| id.clone())
}

/// Returns the Service as the mesh has it.
pub(crate) fn service(id: &ServiceId, context: &mut Context<'_>) -> Option<Service> {
    let known = context.kube_service(id)?;
    let claims = context.claimed_addresses(id)?;
    if known.has_outside() && !known.members.is_empty() {
        let finding = mixed(&known, context);
        context.report(finding);
    }
    if known.has_outside() && known.members.is_empty() && is_held(&known, context) && !context.has_split(id) {
        context.report(no_endpoints(&known));
    }
    let endpoints = context.endpoints(id);
    let splits = context.splits(id).and_then(|splits| Some((splits.0.first()?.object.clone(), splits)));
    let candidates = splits.into_iter().collect();
    let splits = route_source::in_effect(candidates, &ROUTE_SOURCES, |finding| context.report(finding));
    let pods = if known.is_headless { known.pods_by_address() } else { BTreeMap::new() };
    let reader = Reader { known: &known, claims: &claims, endpoints: &endpoints, pods, splits };
    let mut ports = reader.ports(context);
    if known.is_headless {
        reader.add_dialled_ports(&mut ports, context);
    }
    let is_joining = !context.modes(&id.namespace).0.is_enforced() && known.is_reached_in_plaintext();
    Some(Service { id: id.clone(), ports, identities: identities(&known, context), is_joining })
}

/// Reads one Service that is in the mesh.
struct Reader<'a> {
    known: &'a KubeService,
    claims: &'a BTreeSet<(IpAddr, u16)>,
    endpoints: &'a BTreeMap<u16, Vec<Endpoint>>,
    /// Members of a headless Service by address.
    pods: BTreeMap<IpAddr, Vec<&'a Key>>,
    splits: Option<Arc<Splits>>,
}

impl Reader<'_> {
    fn ports(&self, context: &mut Context<'_>) -> BTreeMap<u16, ServicePort> {
        let mut ports = BTreeMap::new();
        let protocols = context.protocols(&self.known.id);
        protocol::report(self.known, &protocols, context);
        for (number, port) in &self.known.ports {
            let Some(protocol) = protocols.ports.get(number).copied() else { continue };
            let route = match &self.splits {
                Some(splits) => splits.route(&self.known.id, *number, protocol, context),
                None => Route::own(self.known.id.clone()),
            };
            ports.insert(
                *number,
                ServicePort {
                    protocol,
                    addresses: self.addresses(*number, context),
                    exact: self.known.is_headless,
                    servers: port.servers().collect(),
                    endpoints: self.endpoints.get(number).cloned().unwrap_or_default(),
                    route,
                },
            );
        }
        ports
    }

    /// Adds the ports of a headless Service's pods. The port of a headless Service is not translated: a client that
    /// dials a pod's address dials the pod's port. A split of the Service's port applies to these calls as well.
    fn add_dialled_ports(&self, ports: &mut BTreeMap<u16, ServicePort>, context: &mut Context<'_>) {
        for port in self.known.ports.values() {
            let Some(ServicePort { protocol, route, endpoints: all, .. }) = ports.get(&port.number) else {
                continue;
            };
            let protocol = *protocol;
            let route = self.dialled_route(port.number, route);
            let mut endpoints: BTreeMap<u16, Vec<Endpoint>> = BTreeMap::new();
            for endpoint in all {
                endpoints.entry(endpoint.port).or_default().push(endpoint.clone());
            }
            for server in port.servers() {
                let dialled = server.port;
                if self.known.ports.contains_key(&dialled) {
                    continue;
                }
                let entry = ports.entry(dialled).or_insert_with(|| ServicePort {
                    protocol,
                    addresses: self.addresses(dialled, context),
                    exact: true,
                    servers: BTreeSet::new(),
                    endpoints: endpoints.remove(&dialled).unwrap_or_default(),
                    route: route.clone(),
                });
                entry.servers.insert(server);
            }
        }
    }

    /// Returns the route of a Service's port for a call to the pod's own port: the Service's own share goes to the pod
    /// that was dialled.
    fn dialled_route(&self, number: u16, route: &Route) -> Route {
        let mut route = route.clone();
        for backend in route.rules.iter_mut().flat_map(|rule| &mut rule.backends) {
            if backend.service != self.known.id {
                backend.port = Some(number);
            }
        }
        route
    }

    /// Returns the addresses that no older Service has on this port.
    fn addresses(&self, number: u16, context: &mut Context<'_>) -> BTreeSet<IpAddr> {
        let mut own = BTreeSet::new();
        for (address, _) in self.claims.iter().filter(|(_, claimed)| *claimed == number) {
            match context.address_owner(*address, number) {
                Some(owner) if owner != self.known.id => {
                    if self.is_same_call(&owner, *address, number, context) {
                        continue;
                    }
                    let message = format!(
                        "the older Service {owner} has {address} with port {number}; calls to it are its own"
                    );
                    context.report(Finding::new(self.known.object.clone(), Reason::AddressConflict, message));
                }
                _ => drop(own.insert(*address)),
            }
        }
        own
    }

    /// Returns true if a call to a pod's address means the same for the Service that owns the address: nothing is lost
    /// then. Both are headless, lead to the same ports of that pod, and read the same protocol; this one is not split.
    fn is_same_call(
        &self,
        owner: &ServiceId,
        address: IpAddr,
        number: u16,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(owner) = context.kube_service(owner) else { return false };
        if !self.known.is_headless || !owner.is_headless || self.splits.is_some() {
            return false;
        }
        let protocol_of =
            |id: &ServiceId, context: &mut Context<'_>| context.protocols(id).ports.get(&number).copied();
        if protocol_of(&self.known.id, context) != protocol_of(&owner.id, context) {
            return false;
        }
        self.pods.get(&address).into_iter().flatten().all(|pod| {
            owner.members.get(pod).is_some()
                && reached(self.known, pod, number) == reached(&owner, pod, number)
        })
    }
}

/// Returns the ports of a pod that a call to one of a Service's ports leads to.
fn reached(service: &KubeService, pod: &Key, number: u16) -> BTreeSet<u16> {
    if let Some(port) = service.ports.get(&number) {
        return port.targets.at(pod).collect();
    }
    let targets = service.ports.values().flat_map(|port| port.targets.at(pod));
    targets.filter(|target| *target == number).collect()
}

/// Returns the identities that may serve: the accounts of the Service's pods, under enforcement only those that are the
/// destination of a target. So clients refuse a pod that matches the selector under an account of its own.
fn identities(known: &KubeService, context: &mut Context<'_>) -> BTreeSet<SpiffeId> {
    let all: BTreeSet<SpiffeId> = known.members.iter().map(|member| member.identity.clone()).collect();
    if !context.modes(&known.id.namespace).0.is_enforced() {
        return all;
    }
    let (granted, refused): (BTreeSet<_>, BTreeSet<_>) =
        all.into_iter().partition(|identity| context.is_granted(identity));
    if !granted.is_empty() && !refused.is_empty() {
        let accounts: Vec<&str> = refused.iter().map(|identity| identity.service_account.as_str()).collect();
        let message = format!(
            "some of its pods run as {}, which no TrafficTarget is about: clients refuse these pods",
            accounts.join(", ")
        );
        context.report(
            Finding::new(known.object.clone(), Reason::ServerIdentityRejected, message)
                .at("spec.selector")
                .hint("narrow the selector, or add a TrafficTarget for the account"),
        );
    }
    granted
}

fn no_endpoints(known: &KubeService) -> Finding {
    let (plain, unreached) = known.names_outside();
    let names = list(&plain.into_iter().chain(unreached).collect());
    let message = format!(
        "none of its pods is in the mesh ({names}), and its namespace takes mTLS alone: calls from the mesh are answered \
         with 503, over TCP closed, and never sent in plaintext"
    );
    Finding::new(known.object.clone(), Reason::NoEndpointsInMesh, message)
        .at("spec.selector")
        .hint("let its pods be injected, or label the namespace smidge.mesh/mtls=permissive")
}

/// Lists pods that are not in the mesh, in few words.
fn list(names: &BTreeSet<String>) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        return format!("{shown} and {} more", names.len() - SHOWN);
    }
    shown
}

/// Returns the finding about the endpoints outside the mesh of a Service with others in it.
fn mixed(known: &KubeService, context: &mut Context<'_>) -> Finding {
    let (plain, unreached) = known.names_outside();
    let finding = |message: String| {
        Finding::new(known.object.clone(), Reason::PartiallyInMesh, message).at("spec.selector")
    };
    let message = "not all of its endpoints are in the mesh";
    if unreached.is_empty() {
        return finding(format!("{message}: calls of the mesh reach {} in plaintext", list(&plain)))
            .hint("restart these pods so that they are injected");
    }
    let (_, mtls) = context.modes(&known.id.namespace);
    let message = format!("{message}: {} get no traffic from the mesh", list(&unreached));
    let hint = if mtls == MtlsMode::Strict {
        "restart these pods so that they are injected; while the namespace has the label smidge.mesh/mtls=permissive, \
         calls reach them in plaintext"
    } else if context.modes(&known.id.namespace).0.is_enforced() {
        "restart these pods so that they are injected; where access is enforced, a call in plaintext needs a \
         TrafficTarget about the account of the pod"
    } else {
        "only pods of the Service's own namespace are reached"
    };
    finding(message).hint(hint)
}
