//! Reads EndpointSlices: the pods that serve a Service's ports, each with the transport by which callers connect.
//! ExternalWorkloads are in no slice: those that a Service selects are endpoints at all times.
//!
//! Pods outside the mesh are endpoints only where their namespace accepts plaintext: then a namespace can join the mesh
//! pod by pod. A port that a pod excludes from redirection has no proxy before it.
//!
//! An address counts only if it belongs to a pod of the Service's own namespace, by the pod's own status: tenants may
//! write slices, and must not direct traffic to addresses that are not theirs.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::discovery::v1::{self, EndpointSlice};
use smidge_mesh::{
    access::MtlsMode,
    id::ServiceId,
    proxy,
    service::{Endpoint, Transport},
};

use crate::{
    context::Context,
    inputs::{Key, Shared},
    node::Node,
    value::{KubePod, KubeService, MeshPod, MeshPods, OutsidePod, Port},
};

/// The label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label by which a slice names who writes it, and its value for slices that Kubernetes derives from pods.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const OF_PODS: &str = "endpointslice-controller.k8s.io";

/// Returns the slice of that name, and contributes it to its Service.
pub(crate) fn slice(key: &Key, context: &mut Context<'_>) -> Option<Shared<EndpointSlice>> {
    let slice = context.object(|inputs| &inputs.slices)?;
    let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
    let service = service.filter(|_| slice.address_type != "FQDN")?;
    context.contribute_to(Node::SlicesOfService(ServiceId::new(&key.0, service)));
    Some(slice.clone())
}

/// Target of an endpoint in a slice.
pub(crate) enum Place {
    /// A pod of the mesh.
    MeshPod(Arc<MeshPod>),
    /// A pod outside the mesh.
    OutsidePod(Arc<KubePod>),
    /// Anything else, in words.
    Outside(String),
}

/// Returns the targets of the slices of a Service in `namespace`, without those that are among its `members` and the pods
/// `outside` already.
pub(crate) fn places(
    slices: &[Shared<EndpointSlice>],
    namespace: &str,
    (members, outside): (&MeshPods, &BTreeMap<Key, Arc<KubePod>>),
    context: &mut Context<'_>,
) -> Vec<Place> {
    let mut places = Vec::new();
    for endpoint in slices.iter().flat_map(|slice| &slice.endpoints) {
        let key = pod_of(endpoint, namespace);
        let is_at = |own: &[IpAddr]| {
            let mut addresses = endpoint.addresses.iter().filter_map(|at| at.parse().ok());
            addresses.any(|at| own.contains(&at))
        };
        let is_known = |key| {
            members.get(key).map_or_else(|| outside.contains_key(key), |member| is_at(&member.addresses))
        };
        if key.as_ref().is_some_and(is_known) {
            continue;
        }
        let pod = key.as_ref().and_then(|key| context.pod(key));
        let member = pod.as_ref().and_then(|pod| pod.member.clone());
        match (key, member) {
            (Some(_), Some(member)) if is_at(&member.addresses) => places.push(Place::MeshPod(member)),
            (Some(_), None) if pod.is_some() => places.extend(pod.map(Place::OutsidePod)),
            (Some(key), None) => places.push(Place::Outside(format!("pod {}", key.1))),
            _ => places.extend(endpoint.addresses.iter().map(|at| Place::Outside(format!("address {at}")))),
        }
    }
    places
}

fn pod_of(endpoint: &v1::Endpoint, namespace: &str) -> Option<Key> {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    let is_own = target.namespace.as_deref().is_none_or(|of| of == namespace);
    is_own.then(|| (namespace.to_owned(), target.name.clone().unwrap_or_default()))
}

/// A pod that a slice names for a port.
pub(crate) struct Served<'a> {
    pub pod: Key,
    pub port: u16,
    address: IpAddr,
    /// The position of the address among those of the pod.
    position: usize,
    zone: &'a str,
    is_ready: bool,
    is_last_resort: bool,
    /// True if it is not ready by what Kubernetes derives from the pod, which is not being deleted.
    is_derived_unready: bool,
}

/// Returns the pods that the slices of a Service in `namespace` name for the port of that name, of those that have
/// addresses by `addresses_of`.
pub(crate) fn served_by<'a>(
    slices: &'a [Shared<EndpointSlice>],
    namespace: &str,
    port: &str,
    addresses_of: impl Fn(&Key) -> Option<&'a [IpAddr]>,
) -> Vec<Served<'a>> {
    let mut all = Vec::new();
    for slice in slices {
        let number = slice.ports.iter().flatten().find(|candidate| {
            candidate.name.as_deref().unwrap_or_default() == port
                && candidate.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
        });
        let number = number.and_then(|found| found.port).and_then(|number| u16::try_from(number).ok());
        let Some(number) = number.filter(|number| !proxy::PORTS.contains(number)) else { continue };
        let is_derived = is_derived(slice);
        for endpoint in &slice.endpoints {
            let Some(pod) = pod_of(endpoint, namespace) else { continue };
            let Some(own) = addresses_of(&pod) else { continue };
            let conditions = endpoint.conditions.as_ref();
            let is_serving = conditions.and_then(|conditions| conditions.serving) != Some(false);
            let is_ready = conditions.and_then(|conditions| conditions.ready) != Some(false);
            let is_terminating = conditions.and_then(|conditions| conditions.terminating) == Some(true);
            for text in &endpoint.addresses {
                let Ok(address) = text.parse() else { continue };
                let Some(position) = own.iter().position(|it| *it == address) else { continue };
                all.push(Served {
                    pod: pod.clone(),
                    address,
                    position,
                    port: number,
                    zone: endpoint.zone.as_deref().unwrap_or_default(),
                    is_ready,
                    is_last_resort: is_serving && is_terminating,
                    is_derived_unready: is_derived && !is_ready && !is_terminating,
                });
            }
        }
    }
    all
}

/// Returns true if Kubernetes derives a slice from the pods that a Service selects; others are read as they are.
fn is_derived(slice: &EndpointSlice) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|name| name == OF_PODS)
}

/// Returns the endpoints of every port of a Service.
pub(crate) fn endpoints(id: &ServiceId, context: &mut Context<'_>) -> Option<BTreeMap<u16, Vec<Endpoint>>> {
    let service = context.kube_service(id)?;
    let slices = context.slices(id);
    let reader = Reader { service: &service, slices: &slices };
    Some(service.ports.values().map(|port| (port.number, reader.port(port, context))).collect())
}

/// Returns the pods of a Service that are outside the mesh, with those that callers of the mesh reach in plaintext: its
/// namespace accepts plaintext, and where access is enforced, a TrafficTarget is about the account of the pod, as for a
/// pod in the mesh.
pub(crate) fn reached(
    namespace: &str,
    pods: BTreeMap<Key, Arc<KubePod>>,
    context: &mut Context<'_>,
) -> BTreeMap<Key, OutsidePod> {
    if pods.is_empty() {
        return BTreeMap::new();
    }
    let (access, mtls) = context.modes(namespace);
    let mut outside = BTreeMap::new();
    for (key, pod) in pods {
        let is_reached = if mtls != MtlsMode::Permissive {
            false
        } else if access.is_enforced() {
            let identity = context.identity(&key.0, &pod.account);
            context.ruled_ports(&identity).is_some()
        } else {
            true
        };
        let plain = is_reached.then(|| context.proxy_id(&key));
        outside.insert(key, OutsidePod { pod, plain });
    }
    outside
}

/// Reads the endpoints of one Service.
struct Reader<'a> {
    service: &'a KubeService,
    slices: &'a [Shared<EndpointSlice>],
}

impl Reader<'_> {
    /// Returns the endpoints of a port: the ready ones; without any, those that still serve while they terminate, as in
    /// Kubernetes, and those that are ready by what their node reported last (`docs/design/037-lost-nodes.md`).
    fn port(&self, port: &Port, context: &mut Context<'_>) -> Vec<Endpoint> {
        let served =
            served_by(self.slices, &self.service.id.namespace, &port.name, |pod| self.addresses_of(pod));
        let external: Vec<Endpoint> = external(port).collect();
        let is_any_ready = !external.is_empty() || served.iter().any(|served| served.is_ready);
        // A pod with addresses of both families is in two slices, and is one endpoint, with the first of its addresses first.
        let mut pods: BTreeMap<(&Key, u16), BTreeMap<usize, &Served<'_>>> = BTreeMap::new();
        let mut counts = |served: &&Served<'_>| {
            if is_any_ready {
                served.is_ready
            } else {
                served.is_last_resort || served.is_derived_unready && context.is_reported_ready(&served.pod)
            }
        };
        for served in served.iter().filter(&mut counts) {
            pods.entry((&served.pod, served.port)).or_default().entry(served.position).or_insert(served);
        }
        let mut endpoints: Vec<Endpoint> = pods.values().filter_map(|served| self.endpoint(served)).collect();
        endpoints.extend(external);
        endpoints.sort();
        endpoints
    }

    fn addresses_of(&self, pod: &Key) -> Option<&[IpAddr]> {
        let member = self.service.members.get(pod).map(|member| member.addresses.as_slice());
        let outside = || self.service.outside.get(pod).filter(|it| it.plain.is_some());
        member.or_else(|| outside().map(|it| it.pod.outside.as_slice()))
    }

    /// Returns the endpoint of a pod that is served at these addresses.
    fn endpoint(&self, addresses: &BTreeMap<usize, &Served<'_>>) -> Option<Endpoint> {
        let mut addresses = addresses.values();
        let served = addresses.next()?;
        let (proxy, transport) = match self.service.members.get(&served.pod) {
            Some(member) if member.inbound.redirects(served.port) => (&member.id, Transport::Mtls),
            Some(member) => (&member.id, Transport::Plaintext),
            None => (self.service.outside.get(&served.pod)?.plain.as_ref()?, Transport::Plaintext),
        };
        Some(Endpoint {
            proxy: proxy.clone(),
            address: served.address,
            alternatives: addresses.map(|served| served.address).collect(),
            port: served.port,
            network: String::new(),
            // Slices name the zone; the region is a label of the node, which is not read yet.
            locality: if served.zone.is_empty() { String::new() } else { format!("/{}", served.zone) },
            transport,
        })
    }
}

/// Returns the ExternalWorkloads behind a port, each at the first of its addresses.
fn external(port: &Port) -> impl Iterator<Item = Endpoint> {
    let targets = port.targets.iter().filter(|(_, member)| member.is_external());
    let targets = targets.filter(|((_, target), _)| !proxy::PORTS.contains(target));
    targets.filter_map(|((_, target), member)| {
        Some(Endpoint {
            proxy: member.id.clone(),
            address: *member.addresses.first()?,
            alternatives: Vec::new(),
            port: *target,
            network: String::new(),
            locality: String::new(),
            transport: Transport::Mtls,
        })
    })
}
