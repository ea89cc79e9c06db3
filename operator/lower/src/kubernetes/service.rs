//! Reads Kubernetes Services: which of their pods are in the mesh, the addresses under which they are called, and the
//! protocols of their ports.
//!
//! `KubeService` is a Service as read, in the mesh or not; `mesh_service` turns it into the Service of the mesh.
//! `split` decides where traffic to a port goes, and `endpoints` which pods serve it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};
use smidge_mesh::{id::ServiceId, proxy, service::Protocol};

use super::{
    endpoints,
    metadata::{self, Place},
    service_fields,
};
use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::{Key, Shared},
    node::Node,
    value::{KubePod, KubeService, MeshPod, MeshPods, PodPort, Port, Targets, Value},
};

/// Returns the Service of that name, unless it is only an alias of a name elsewhere.
pub(crate) fn kube_service(id: &ServiceId, context: &mut Context<'_>) -> Option<KubeService> {
    let service = context.object(|inputs| &inputs.services)?;
    let spec = service.spec.as_ref();
    if is_alias(service) {
        return None;
    }
    let selector = spec.and_then(|spec| spec.selector.as_ref()).filter(|all| !all.is_empty());
    let slices = context.slices(id);
    let Pods { members, outside, unknown_names } = pods(id, selector, &slices, context);
    let object = ObjectRef::new("Service", &id.namespace, &id.name);
    let mut ports = ports(spec, &object, context.findings());
    let by_name = members.by_name();
    for port in ports.values_mut() {
        port.targets = targets(id, port, selector.is_some(), (&members, &by_name), &slices);
    }
    let known = KubeService {
        id: id.clone(),
        object,
        created: service.metadata.creation_timestamp.clone(),
        ports,
        members,
        outside: endpoints::reached(&id.namespace, outside, context),
        unknown_names,
        has_selector: selector.is_some(),
        cluster_addresses: cluster_addresses(spec),
        is_headless: spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None"),
    };
    give(&known, context);
    service_fields::report(&known, service, context);
    if !known.members.is_empty() {
        metadata::report(&known.object, (Place::Service, true), &service.metadata, context.findings());
    }
    Some(known)
}

/// Returns true if the Service of the node is only an alias of a name elsewhere.
pub(crate) fn is_external_name(context: &mut Context<'_>) -> bool {
    context.object(|inputs| &inputs.services).is_some_and(|service| is_alias(service))
}

fn is_alias(service: &v1::Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// Contributes a Service to the nodes that are computed from it.
fn give(known: &KubeService, context: &mut Context<'_>) {
    for node in [Node::Endpoints, Node::ServiceLoad, Node::ClaimedAddresses, Node::Service] {
        context.contribute_to(node(known.id.clone()));
    }
    let mut inbound = BTreeSet::new();
    for port in known.ports.values() {
        let targets = port.targets.iter().map(|(member, target)| (&member.identity, *target));
        let (own, of_proxy): (BTreeSet<_>, BTreeSet<_>) =
            targets.partition(|(_, target)| !proxy::PORTS.contains(target));
        let numbers: BTreeSet<u16> = of_proxy.into_iter().map(|(_, target)| target).collect();
        for target in numbers {
            context.report(reserved(known, port, target));
        }
        inbound.extend(own);
    }
    for (identity, target) in inbound {
        context.contribute_to(Node::InboundPort(identity.clone(), target));
    }
    for (pod, ports) in known.pod_ports() {
        context.contribute_part(Node::ServedPorts(pod.clone()), Value::PodPorts(ports));
    }
}

/// The pods of a Service.
struct Pods {
    members: MeshPods,
    outside: BTreeMap<Key, Arc<KubePod>>,
    unknown_names: BTreeSet<String>,
}

/// Returns the pods that a Service selects or its slices point to: those in the mesh, and the others.
fn pods(
    id: &ServiceId,
    selector: Option<&BTreeMap<String, String>>,
    slices: &[Shared<EndpointSlice>],
    context: &mut Context<'_>,
) -> Pods {
    let selected = selector.map(|labels| context.selected(&id.namespace, labels)).unwrap_or_default();
    let mut members: MeshPods = selected.iter().filter_map(|pod| pod.member.clone()).collect();
    let others = selected.into_iter().filter(|pod| pod.member.is_none());
    let mut outside: BTreeMap<Key, Arc<KubePod>> = others.map(|pod| (pod.key.clone(), pod)).collect();
    let (mut more, mut unknown_names) = (Vec::new(), BTreeSet::new());
    for place in endpoints::places(slices, &id.namespace, &members.by_name(), context) {
        match place {
            endpoints::Place::MeshPod(member) => more.push(member),
            endpoints::Place::OutsidePod(pod) => drop(outside.insert(pod.key.clone(), pod)),
            endpoints::Place::Outside(name) => drop(unknown_names.insert(name)),
        }
    }
    members.add(more);
    Pods { members, outside, unknown_names }
}

/// Returns the members behind a port, with their own port: by selector and target port, so that a pod's inbound side
/// exists before the pod is ready, and by the slices, which are the only source without a selector.
fn targets(
    id: &ServiceId,
    port: &Port,
    has_selector: bool,
    (members, by_name): (&MeshPods, &HashMap<&str, &Arc<MeshPod>>),
    slices: &[Shared<EndpointSlice>],
) -> Targets {
    let selected = |member: &Arc<MeshPod>| port.target(member).filter(|_| has_selector);
    let by_selector = members.iter().filter_map(|member| Some((Arc::clone(member), selected(member)?)));
    let find = |name: &str| by_name.get(name).map(|member| (*member, member.addresses.as_slice()));
    let by_slices = endpoints::served_by(slices, &id.namespace, &port.name, find).into_iter();
    // Most slices have what the selector has.
    let by_slices = by_slices.filter(|served| selected(served.pod) != Some(served.port));
    by_selector.chain(by_slices.map(|served| (Arc::clone(served.pod), served.port))).collect()
}

fn cluster_addresses(spec: Option<&v1::ServiceSpec>) -> BTreeSet<IpAddr> {
    let texts = spec.into_iter().flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn ports(
    spec: Option<&v1::ServiceSpec>,
    object: &ObjectRef,
    findings: &mut Vec<Finding>,
) -> BTreeMap<u16, Port> {
    let mut ports = BTreeMap::new();
    let written = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten()).enumerate();
    for (index, port) in written {
        let is_tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        let field = format!("spec.ports[{index}]");
        match u16::try_from(port.port).ok().filter(|number| *number != 0) {
            Some(number) if is_tcp => {
                let declared = Protocol::declared(port.app_protocol.as_deref(), port.name.as_deref());
                ports.entry(number).or_insert(Port {
                    field,
                    number,
                    name: port.name.clone().unwrap_or_default(),
                    declared,
                    target: port.target_port.clone(),
                    targets: Targets::default(),
                });
            }
            Some(_) => {}
            None => findings.push(
                Finding::new(
                    object.clone(),
                    Reason::InvalidPort,
                    format!(
                        "{} is no port: expected a whole number from 1 to 65535; it is left out",
                        port.port
                    ),
                )
                .at(format!("{field}.port")),
            ),
        }
    }
    ports
}

/// Returns the ports of a pod that Services send to, with the protocols that they declare. If two Services, or two ports
/// of one, declare different protocols, that of the older Service and the lower port is in effect.
pub(crate) fn served_ports(context: &mut Context<'_>) -> BTreeMap<u16, Option<Protocol>> {
    let mut services: Vec<_> = context.contributors().iter().filter_map(|it| context.pod_ports(it)).collect();
    services.sort_by(|one, other| one.age.cmp(&other.age));
    let mut owners: BTreeMap<u16, Option<Declared<'_>>> = BTreeMap::new();
    for service in &services {
        for port in &service.ports {
            let owner = owners.entry(port.target).or_default();
            let Some(protocol) = port.declared else { continue };
            let declared = Declared { service: &service.age.1, port, protocol };
            let owner = *owner.get_or_insert(declared);
            if owner.protocol != protocol {
                context.report(conflict(declared, owner));
            }
        }
    }
    owners.into_iter().map(|(target, owner)| (target, owner.map(|owner| owner.protocol))).collect()
}

/// Declaration of a protocol by a Service's port.
#[derive(Clone, Copy)]
struct Declared<'a> {
    service: &'a ServiceId,
    port: &'a PodPort,
    protocol: Protocol,
}

fn reserved(service: &KubeService, port: &Port, target: u16) -> Finding {
    let message =
        format!("sends to the pods' port {target}, which the proxy needs for itself; it is not served");
    Finding::new(service.object.clone(), Reason::ReservedPort, message)
        .at(format!("{}.targetPort", port.field))
        .hint("let the application listen on another port")
}

fn conflict(declared: Declared<'_>, owner: Declared<'_>) -> Finding {
    let Declared { service, port, protocol } = declared;
    let target = port.target;
    let message = if service == owner.service {
        format!(
            "ports {} and {} both lead to the pods' port {target} and declare {} and {}: the pods' port is read as {}",
            owner.port.number,
            port.number,
            owner.protocol.name(),
            protocol.name(),
            owner.protocol.name()
        )
    } else {
        format!(
            "port {} declares {} for the pods' port {target}, but port {} of the older Service {} declares {}, which is \
             in effect",
            port.number,
            protocol.name(),
            owner.port.number,
            owner.service.name,
            owner.protocol.name()
        )
    };
    let object = ObjectRef::new("Service", &service.namespace, &service.name);
    Finding::new(object, Reason::ProtocolConflict, message)
        .at(port.field.clone())
        .hint("give both ports the same appProtocol")
}
