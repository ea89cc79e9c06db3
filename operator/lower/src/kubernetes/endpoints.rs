//! Reads EndpointSlices: the pods that serve a Service's ports, each with the transport by which callers connect.
//! ExternalWorkloads are in no slice: those that a Service selects are endpoints at all times.
//!
//! Pods outside the mesh are endpoints only where their namespace accepts plaintext: then a namespace can join the mesh
//! pod by pod. A port that a pod excludes from redirection has no proxy before it.
//!
//! An address counts only if it belongs to a pod of the Service's own namespace, by the pod's own status: tenants may
//! write slices, and must not direct traffic to addresses that are not theirs.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::{self, EndpointSlice};
use smidge_crds::redirected::RedirectedPorts;
use smidge_mesh::{
    access::MtlsMode,
    id::{ProxyId, ServiceId},
    proxy,
    service::{Endpoint, Transport},
};

use crate::{
    context::Context,
    inputs::{Key, Shared},
    node::Node,
    value::{KubePod, KubeService, MeshPod, OutsidePod, Port},
};

/// The label by which a slice names its Service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label by which a slice names who writes it, and its value for slices that Kubernetes derives from pods.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const OF_PODS: &str = "endpointslice-controller.k8s.io";

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

/// Returns the targets of the slices of a Service in `namespace`, without those that are among its `members` already.
pub(crate) fn places(
    slices: &[Shared<EndpointSlice>],
    namespace: &str,
    members: &HashMap<&str, &Arc<MeshPod>>,
    context: &mut Context<'_>,
) -> Vec<Place> {
    let mut places = Vec::new();
    for endpoint in slices.iter().flat_map(|slice| &slice.endpoints) {
        let name = pod_of(endpoint, namespace);
        let is_at = |member: &MeshPod| {
            let mut addresses = endpoint.addresses.iter().filter_map(|at| at.parse().ok());
            addresses.any(|at| member.addresses.contains(&at))
        };
        if name.and_then(|name| members.get(name)).is_some_and(|member| is_at(member)) {
            continue;
        }
        let pod = name.and_then(|name| context.pod(&(namespace.to_owned(), name.to_owned())));
        let member = pod.as_ref().and_then(|pod| pod.member.clone());
        match (name, member) {
            (Some(_), Some(member)) if is_at(&member) => places.push(Place::MeshPod(member)),
            (Some(_), None) if pod.is_some() => places.extend(pod.map(Place::OutsidePod)),
            (Some(name), None) => places.push(Place::Outside(format!("pod {name}"))),
            _ => places.extend(endpoint.addresses.iter().map(|at| Place::Outside(format!("address {at}")))),
        }
    }
    places
}

/// Returns the name of an endpoint's pod, if it is one of the Service's own namespace.
fn pod_of<'a>(endpoint: &'a v1::Endpoint, namespace: &str) -> Option<&'a str> {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    let is_own = target.namespace.as_deref().is_none_or(|of| of == namespace);
    is_own.then(|| target.name.as_deref().unwrap_or_default())
}

/// A pod that a slice names for a port, at one of its addresses.
pub(crate) struct Served<'a, P> {
    pub pod: P,
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

/// Returns the pods that the slices of a Service in `namespace` name for the port of that name, of those that `find` returns
/// with their addresses.
pub(crate) fn served_by<'a, 'p, P: Copy>(
    slices: &'a [Shared<EndpointSlice>],
    namespace: &str,
    port: &str,
    find: impl Fn(&str) -> Option<(P, &'p [IpAddr])>,
) -> Vec<Served<'a, P>> {
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
            let Some((pod, own)) = pod_of(endpoint, namespace).and_then(&find) else { continue };
            let conditions = endpoint.conditions.as_ref();
            let is_serving = conditions.and_then(|conditions| conditions.serving) != Some(false);
            let is_ready = conditions.and_then(|conditions| conditions.ready) != Some(false);
            let is_terminating = conditions.and_then(|conditions| conditions.terminating) == Some(true);
            for text in &endpoint.addresses {
                let Ok(address) = text.parse() else { continue };
                let Some(position) = own.iter().position(|it| *it == address) else { continue };
                all.push(Served {
                    pod,
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
    let reader = Reader { namespace: &id.namespace, slices: &slices, backends: backends(&service) };
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

/// A pod that calls reach.
#[derive(Clone, Copy)]
struct Backend<'a> {
    /// Its place among the pods of the Service, which are in the order of names.
    order: usize,
    key: &'a Key,
    proxy: &'a ProxyId,
    /// Ports on which its proxy is reached, if it is in the mesh.
    inbound: Option<&'a RedirectedPorts>,
    addresses: &'a [IpAddr],
}

/// Returns the pods of a Service that calls reach, by name.
fn backends(service: &KubeService) -> HashMap<&str, Backend<'_>> {
    let members = service.members.iter().map(|it| {
        let MeshPod { id, key, addresses, inbound, .. } = &**it;
        Backend { order: 0, key, proxy: id, inbound: Some(inbound), addresses }
    });
    let outside = service.outside.iter().filter_map(|(key, it)| {
        let addresses = it.pod.outside.as_slice();
        Some(Backend { order: 0, key, proxy: it.plain.as_ref()?, inbound: None, addresses })
    });
    let all = members.chain(outside).enumerate();
    all.map(|(order, backend)| (backend.key.1.as_str(), Backend { order, ..backend })).collect()
}

/// Reads the endpoints of one Service.
struct Reader<'a> {
    namespace: &'a str,
    slices: &'a [Shared<EndpointSlice>],
    backends: HashMap<&'a str, Backend<'a>>,
}

impl Reader<'_> {
    /// Returns the endpoints of a port: the ready ones; without any, those that still serve while they terminate, as in
    /// Kubernetes, and those that are ready by what their node reported last (`docs/design/037-lost-nodes.md`).
    fn port(&self, port: &Port, context: &mut Context<'_>) -> Vec<Endpoint> {
        let find = |name: &str| self.backends.get(name).map(|backend| (backend, backend.addresses));
        let served = served_by(self.slices, self.namespace, &port.name, find);
        let external: Vec<Endpoint> = external(port).collect();
        let is_any_ready = !external.is_empty() || served.iter().any(|served| served.is_ready);
        let counts = |served: &&Served<'_, &Backend<'_>>| {
            if is_any_ready {
                served.is_ready
            } else {
                served.is_last_resort
                    || served.is_derived_unready && context.is_reported_ready(served.pod.key)
            }
        };
        // A pod with addresses of both families is in two slices, and is one endpoint, with the first of its addresses first.
        let mut counted: Vec<_> = served.iter().filter(counts).collect();
        counted.sort_by_key(|served| (served.pod.order, served.port, served.position));
        counted.dedup_by_key(|served| (served.pod.order, served.port, served.position));
        let pods = counted.chunk_by(|one, other| (one.pod.order, one.port) == (other.pod.order, other.port));
        let mut endpoints: Vec<Endpoint> = pods.filter_map(endpoint).collect();
        endpoints.extend(external);
        endpoints.sort();
        endpoints
    }
}

/// Returns the endpoint of a pod that is served at these addresses.
fn endpoint(addresses: &[&Served<'_, &Backend<'_>>]) -> Option<Endpoint> {
    let (served, alternatives) = addresses.split_first()?;
    let has_proxy = served.pod.inbound.is_some_and(|inbound| inbound.redirects(served.port));
    Some(Endpoint {
        proxy: served.pod.proxy.clone(),
        address: served.address,
        alternatives: alternatives.iter().map(|served| served.address).collect(),
        port: served.port,
        network: String::new(),
        // Slices name the zone; the region is a label of the node, which is not read yet.
        locality: if served.zone.is_empty() { String::new() } else { format!("/{}", served.zone) },
        transport: if has_proxy { Transport::Mtls } else { Transport::Plaintext },
    })
}

/// Returns the ExternalWorkloads behind a port, each at the first of its addresses.
fn external(port: &Port) -> impl Iterator<Item = Endpoint> {
    let targets = port.targets.iter().filter(|(member, _)| member.is_external());
    let targets = targets.filter(|(_, target)| !proxy::PORTS.contains(target));
    targets.filter_map(|(member, target)| {
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
