//! Finds the pods that are in the mesh, and turns them into workloads and classes.
//!
//! A pod is in the mesh if its namespace is labelled for it and the pod was injected: the webhook's annotation and the
//! proxy's container are both there. Knows nothing of Services; `service` determines to which ports they send.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use sha2::{Digest, Sha256};
use smidge_crds::{
    labels::{self, INJECTED, PROXY_CONTAINER},
    redirected::InboundRedirection,
};
use smidge_mesh::{
    access::{AccessMode, MtlsMode},
    id::{ClassId, ClusterId},
    proxy::{self, Families, TrafficStats},
    service::Protocol,
    workload::{Class, Workload},
};

use super::{
    metadata::{self, Place},
    protocol,
};
use crate::{
    bypass,
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
    node::Node,
    smi::metrics_policy,
    value::{DeclaredPort, IdentityPorts, KubePod, MeshPod},
};

/// Maximum number of declared ports of a pod that are served though no Service sends to them: each has a copy of the
/// workload's rules.
const DECLARED_PORTS: usize = 64;

/// Returns true if a pod declares that it runs a proxy of the mesh, and has not ended. Its namespace's label decides
/// whether it is a member.
///
/// A pod in the node's network does not count: its address is that of the node, which others use as well.
fn claims_proxy(pod: &Pod) -> bool {
    let annotated = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(INJECTED))
        .is_some_and(|value| value == "true");
    let spec = pod.spec.as_ref();
    let has_proxy = spec
        .and_then(|spec| spec.init_containers.as_ref())
        .is_some_and(|all| all.iter().any(|container| container.name == PROXY_CONTAINER));
    let is_of_node = spec.is_some_and(|spec| spec.host_network == Some(true));
    annotated && has_proxy && !is_of_node && !has_ended(pod)
}

/// Returns true if a pod's containers have all ended for good.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Returns true if a pod is ready by what its node reported last: its containers are ready, its readiness gates are
/// fulfilled, and it is not being deleted. The condition `Ready` is not read: the node controller sets it where a node does
/// not report any more.
pub fn is_reported_ready(pod: &Pod) -> bool {
    let is_true = |kind: &str| {
        let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|condition| condition.type_ == kind && condition.status == "True")
    };
    let mut gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && is_true("ContainersReady")
        && gates.all(|gate| is_true(&gate.condition_type))
}

/// Returns the kind and name of the object that a pod is an instance of.
pub fn owner(pod: &Pod) -> (String, String) {
    let controller =
        pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let Some(controller) = controller else {
        return ("Pod".to_owned(), pod.metadata.name.clone().unwrap_or_default());
    };
    if controller.kind == "ReplicaSet" {
        // A ReplicaSet of a Deployment is called `<deployment>-<hash>`, and its pods carry the hash as a label.
        let labels = [("pod-template-hash", "Deployment"), ("rollouts-pod-template-hash", "Rollout")];
        for (label, kind) in labels {
            let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get(label));
            let name = hash.and_then(|hash| controller.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            if let Some(name) = name {
                return (kind.to_owned(), name.to_owned());
            }
        }
    }
    (controller.kind.clone(), controller.name.clone())
}

/// Returns the pod of that name, unless it has ended.
pub(crate) fn kube_pod(key: &Key, context: &mut Context<'_>) -> Option<KubePod> {
    let pod = context.object(|inputs| &inputs.pods).filter(|pod| !has_ended(pod))?;
    for address in addresses(pod) {
        context.contribute_to(Node::PodsAtAddress(address.to_canonical()));
    }
    give_to_sets(&key.0, &pod.metadata, account(pod), context);
    let claims = claims_proxy(pod);
    let is_member = claims && context.injects(&key.0);
    if claims && !is_member {
        context.report(not_injected_here(&key.0, pod));
    }
    let (kind, name) = owner(pod);
    context.contribute_to(Node::PodsOfWorkload(key.0.clone(), kind.clone(), name.clone()));
    let object = ObjectRef::new(kind, &key.0, name);
    report_metadata(&object, pod, is_member, context);
    if is_member {
        for way in bypass::ways(pod, &InboundRedirection::of(pod)).into_iter().take(bypass::MAX_REPORTED) {
            context.report(can_leave(object.clone(), way));
        }
    }
    if !is_member && context.injects(&key.0) && context.modes(&key.0).0 == AccessMode::Enforce {
        context.report(sidecar_missing(object, pod));
    }
    let member = is_member.then(|| {
        let member = member(key, pod, context);
        give(&member, context);
        Arc::new(member)
    });
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let is_in_node_network = pod.spec.as_ref().is_none_or(|spec| spec.host_network == Some(true));
    let outside = if member.is_none() { addresses(pod) } else { Vec::new() };
    let account = account(pod).to_owned();
    Some(KubePod { key: key.clone(), labels, account, member, outside, is_in_node_network })
}

/// Contributes a pod to the sets of its namespace.
pub(super) fn give_to_sets(namespace: &str, metadata: &ObjectMeta, account: &str, context: &mut Context<'_>) {
    for (name, value) in metadata.labels.iter().flatten() {
        context.contribute_to(Node::PodsWithLabel(namespace.to_owned(), name.clone(), value.clone()));
    }
    context.contribute_to(Node::PodsInNamespace(namespace.to_owned()));
    context.contribute_to(Node::PodsOfAccount(namespace.to_owned(), account.to_owned()));
}

/// Contributes a member to the nodes that are computed from it.
pub(super) fn give(member: &MeshPod, context: &mut Context<'_>) {
    context.contribute_to(Node::Workload(member.key.clone()));
    let declared = member.ports.iter().filter_map(|port| u16::try_from(port.number).ok());
    for port in declared.filter(|port| !proxy::PORTS.contains(port)) {
        context.contribute_to(Node::InboundPort(member.identity.clone(), port));
    }
}

/// Reports labels and annotations of a pod that have no effect.
fn report_metadata(object: &ObjectRef, pod: &Pod, is_member: bool, context: &mut Context<'_>) {
    metadata::report(object, (Place::Pod, is_member), &pod.metadata, context.findings());
    let label = pod.metadata.labels.as_ref().and_then(|all| all.get(labels::INJECT));
    let namespace = &object.namespace;
    if !is_member && label.is_some_and(|it| it == labels::INJECT_ENABLED) && !context.injects(namespace) {
        let message = format!(
            "the pod is not in the mesh: the label of its namespace decides, and {namespace} has none"
        );
        context.report(
            Finding::new(object.clone(), Reason::NamespaceNotInjected, message)
                .at(format!("metadata.labels[{}]", labels::INJECT))
                .hint(format!("label the namespace {}={}", labels::INJECT, labels::INJECT_ENABLED)),
        );
    }
}

/// Returns the number of the TCP port called `name` in a container of the application.
pub(crate) fn named_port(pod: &Pod, name: &str) -> Option<u16> {
    declared(pod)
        .find(|port| is_tcp(port) && port.name.as_deref() == Some(name))
        .and_then(|port| u16::try_from(port.container_port).ok())
}

fn is_tcp(port: &ContainerPort) -> bool {
    port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
}

/// The ports that the application declares: those of its containers and of its own sidecars.
fn declared(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let spec = pod.spec.as_ref();
    let is_sidecar = |container: &&Container| {
        container.restart_policy.as_deref() == Some("Always") && container.name != PROXY_CONTAINER
    };
    let own = spec.into_iter().flat_map(|spec| spec.containers.iter());
    let sidecars = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten()).filter(is_sidecar);
    own.chain(sidecars).flat_map(|container| container.ports.iter().flatten())
}

/// Returns the ServiceAccount that a pod runs under. The API server fills the field; a manifest on disk may lack it.
pub(crate) fn account(pod: &Pod) -> &str {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    account.filter(|name| !name.is_empty()).unwrap_or("default")
}

/// The addresses of a pod as its node reports them.
pub(crate) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let addresses = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    addresses.filter_map(|address| address.ip.parse().ok()).collect()
}

fn member(key: &Key, pod: &Pod, context: &mut Context<'_>) -> MeshPod {
    MeshPod {
        id: context.proxy_id(key),
        key: key.clone(),
        identity: context.identity(&key.0, account(pod)),
        addresses: addresses(pod),
        owner: owner(pod),
        traffic: traffic(pod),
        is_planned: pod.metadata.uid.is_none() && proxy_version(pod).is_none(),
        is_ending: pod.metadata.deletion_timestamp.is_some(),
        ports: declared(pod)
            .filter(|port| is_tcp(port))
            .map(|port| DeclaredPort {
                name: port.name.clone(),
                number: port.container_port,
                protocol: Protocol::declared(None, port.name.as_deref()),
            })
            .collect(),
        inbound: InboundRedirection::of(pod).ports,
    }
}

/// Returns the statistics of traffic that the proxy of a pod can count, by the version that injection has written.
fn traffic(pod: &Pod) -> TrafficStats {
    proxy_version(pod).map_or(TrafficStats::None, TrafficStats::of_version)
}

fn proxy_version(pod: &Pod) -> Option<&str> {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(labels::PROXY_VERSION)).map(String::as_str)
}

/// Returns the workload instance of a pod, and its class.
pub(crate) fn workload(key: &Key, context: &mut Context<'_>) -> Option<(Arc<Workload>, Arc<Class>)> {
    let instance = context.pod(key)?;
    let member = instance.member.as_ref()?;
    let served = context.served_ports(key);
    let mut ports = BTreeMap::clone(&*served);
    let mut declared = BTreeMap::new();
    for DeclaredPort { name: _, number, protocol } in &member.ports {
        let Some(number) = u16::try_from(*number).ok().filter(|number| *number != 0) else { continue };
        if proxy::PORTS.contains(&number) {
            context.report(reserved(member.object(), number));
        } else if !ports.contains_key(&number) {
            declared.entry(number).or_insert(*protocol);
        }
    }
    if declared.len() > DECLARED_PORTS {
        context.report(too_many_ports(member.object(), declared.len()));
    }
    ports.extend(declared.into_iter().take(DECLARED_PORTS));
    let (access, mtls) = context.modes(&key.0);
    let identity = member.identity.clone();
    let protocol_of = |(port, declared): (u16, Option<Protocol>)| {
        (port, declared.unwrap_or_else(|| protocol::of_workload(&identity, port, context)))
    };
    let ports = ports.into_iter().map(protocol_of).collect();
    // What is measured is added by the class, as its instances share it.
    let routes = Vec::new();
    let ends = member.is_ending && mtls == MtlsMode::Permissive;
    let (traffic, families) = (member.traffic, Families::of(&member.addresses));
    let class = Class { identity: identity.clone(), ports, access, mtls, ends, traffic, families, routes };
    let id = class_id(context.cluster(), &class);
    context.contribute_to(Node::Class(id.clone()));
    let (kind, name) = member.owner.clone();
    Some((Workload { identity, kind, name, class: id }.into(), class.into()))
}

/// Returns the class of the instances that contribute to it, which all have the same value, with the routes that are
/// measured for any of them.
pub(crate) fn class(context: &mut Context<'_>) -> Option<Arc<Class>> {
    let contributors = context.contributors();
    let mut class = contributors.iter().find_map(|instance| context.class(instance))?;
    context.contribute_to(Node::IdentityPorts(class.identity.clone()));
    let routes = metrics_policy::routes(&class, contributors, context);
    if !routes.is_empty() {
        Arc::make_mut(&mut class).routes = routes;
    }
    Some(class)
}

/// Returns the ports of an identity's workloads, of all its classes.
pub(crate) fn identity_ports(context: &mut Context<'_>) -> IdentityPorts {
    let mut all = IdentityPorts::new();
    for contributor in context.contributors() {
        let Some(class) = context.class_of(&contributor) else { continue };
        for (port, protocol) in &class.ports {
            all.entry(*port).or_default().insert(*protocol);
        }
    }
    all
}

fn can_leave(object: ObjectRef, way: bypass::Way) -> Finding {
    Finding::new(object, Reason::CanBypassSidecar, way.why)
        .at(way.field)
        .hint("take it out of the pod; spec.injection.strict in the MeshConfig refuses such pods")
}

/// Reports a pod whose callers no policy judges, though its namespace enforces it.
fn sidecar_missing(object: ObjectRef, pod: &Pod) -> Finding {
    let label = pod.metadata.labels.as_ref().and_then(|all| all.get(labels::INJECT));
    let field = format!("metadata.labels[{}]", labels::INJECT);
    let (why, field, hint) = if label.is_some_and(|it| it == labels::INJECT_DISABLED) {
        (
            "its label keeps it out",
            field,
            "remove the label, or run it in a namespace that does not enforce access",
        )
    } else if pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
        let hint = "run it in a namespace that does not enforce access";
        ("it is in the network of its node", "spec.hostNetwork".to_owned(), hint)
    } else {
        let hint = "restart it; a pod that was created before its namespace had the label has no sidecar";
        ("it has no sidecar", String::new(), hint)
    };
    let message = format!(
        "is not in the mesh, as {why}, and its namespace enforces access: no TrafficTarget protects it"
    );
    let finding = Finding::new(object, Reason::SidecarMissing, message).hint(hint);
    if field.is_empty() { finding } else { finding.at(field) }
}

fn not_injected_here(namespace: &str, pod: &Pod) -> Finding {
    let (kind, name) = owner(pod);
    let message = "has a proxy's container and annotation, but its namespace is not in the mesh: the proxy gets no \
                   identity and no configuration";
    Finding::new(ObjectRef::new(kind, namespace, name), Reason::NamespaceNotInjected, message)
        .at(format!("metadata.annotations[{INJECTED}]"))
        .hint(format!(
            "label the namespace {}={}, or run the pod without the proxy",
            labels::INJECT,
            labels::INJECT_ENABLED
        ))
}

fn too_many_ports(object: ObjectRef, number: usize) -> Finding {
    let message = format!(
        "declares {number} ports that no Service sends to: expected at most {DECLARED_PORTS}; those with the lowest numbers are \
         served"
    );
    Finding::new(object, Reason::BudgetExceeded, message).hint("leave out unused ports")
}

fn reserved(object: ObjectRef, port: u16) -> Finding {
    let all = proxy::PORTS.map(|port| port.to_string()).join(", ");
    Finding::new(
        object,
        Reason::ReservedPort,
        format!("declares container port {port}, which the proxy needs for itself ({all}); it is not served"),
    )
    .hint("let the application listen on another port")
}

/// Returns the name of a class: its account, and a digest of all that determines its listener. The access mode and the
/// measured routes do not: a change of them must move no proxy to another class. Clusters may differ in their modes, so a class belongs to
/// one cluster.
fn class_id(cluster: &ClusterId, class: &Class) -> ClassId {
    let Class { identity, ports, access: _, mtls, ends, traffic, families, routes: _ } = class;
    let mut text = format!("{cluster} {identity} {mtls:?}");
    for (port, protocol) in ports {
        // Writing to a String cannot fail.
        let _ = write!(text, " {port}={protocol:?}");
    }
    if !traffic.is_none() {
        let _ = write!(text, " {traffic:?}");
    }
    if !families.is_v4() {
        let _ = write!(text, " {families:?}");
    }
    if *ends {
        text.push_str(" ends");
    }
    let digest = Sha256::digest(text.as_bytes());
    let mut short = String::new();
    for byte in digest.iter().take(6) {
        let _ = write!(short, "{byte:02x}");
    }
    ClassId(format!("{}/{}/{short}", identity.namespace, identity.service_account))
}
