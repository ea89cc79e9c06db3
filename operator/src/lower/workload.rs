//! Finds the pods that are in the mesh, and turns them into workloads and classes.
//!
//! A pod is in the mesh when it was injected: the webhook's annotation and the proxy's container are both there. Says
//! nothing about Services; `service` hands in the ports that they send to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use sha2::{Digest, Sha256};
use smidge_xds::mesh::{
    Mesh,
    id::{ClassId, ClusterId, ProxyId, SpiffeId},
    service::Protocol,
    workload::{Class, Workload},
};

use super::{service::protocol_of, settings::Settings};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key},
};

/// The annotation that the webhook leaves on a pod it injected.
pub const INJECTED: &str = "smidge.mesh/injected";

/// The name of the proxy's container, a native sidecar and so an init container.
pub const PROXY_CONTAINER: &str = "smidge-proxy";

/// Ports that the proxy itself listens on: outbound, inbound, readiness, metrics. Never a port of the application.
pub const RESERVED_PORTS: [u16; 4] = [15001, 15006, 15021, 15090];

/// Whether a pod runs a proxy of the mesh: it was injected and has not ended.
///
/// A pod in the node's network is none: its address is the node's, where others live as well.
pub fn is_member(pod: &Pod) -> bool {
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

/// Whether a pod's containers have all ended for good.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The kind and name of the thing that a pod is an instance of.
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

/// A pod that is in the mesh.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub id: ProxyId,
    pub key: &'a Key,
    pub pod: &'a Pod,
    pub identity: SpiffeId,
    /// As the cluster reports them, the primary one first.
    pub addresses: Vec<IpAddr>,
}

impl Member<'_> {
    /// The workload as an object, for findings: a pod's own name changes with every rollout.
    pub fn object(&self) -> ObjectRef {
        let (kind, name) = owner(self.pod);
        ObjectRef::new(kind, &self.id.namespace, name)
    }

    /// Where `address` stands among the pod's own.
    pub fn position(&self, address: IpAddr) -> Option<usize> {
        self.addresses.iter().position(|own| *own == address)
    }
}

/// The number of the TCP port called `name` in a container of the application.
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

/// The pods of a cluster: those in the mesh, and all of them by label.
#[derive(Debug, Default)]
pub(super) struct Pods<'a> {
    pub members: BTreeMap<&'a Key, Member<'a>>,
    by_label: BTreeMap<(&'a str, &'a str, &'a str), Vec<&'a Key>>,
    labels: BTreeMap<&'a Key, &'a BTreeMap<String, String>>,
}

impl<'a> Pods<'a> {
    pub fn read(cluster: &ClusterId, inputs: &'a Inputs) -> Self {
        let mut pods = Self::default();
        for (key, pod) in inputs.pods.iter().filter(|(_, pod)| !has_ended(pod)) {
            if let Some(labels) = &pod.metadata.labels {
                for (name, value) in labels {
                    pods.by_label.entry((&key.0, name, value)).or_default().push(key);
                }
                pods.labels.insert(key, labels);
            }
            if is_member(pod) {
                pods.members.insert(key, member(cluster, inputs, key, pod));
            }
        }
        pods
    }

    /// The pods of `namespace` that a Service's selector selects. An empty selector selects nothing.
    pub fn selected(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<&'a Key> {
        // The rarest label first: a label that every pod has would make this quadratic.
        let rarest = selector
            .iter()
            .map(|(name, value)| {
                self.by_label.get(&(namespace, name.as_str(), value.as_str())).map_or(&[][..], Vec::as_slice)
            })
            .min_by_key(|pods| pods.len());
        let carries = |key: &&'a Key| {
            self.labels
                .get(*key)
                .is_some_and(|labels| selector.iter().all(|(name, value)| labels.get(name) == Some(value)))
        };
        rarest.into_iter().flatten().copied().filter(carries).collect()
    }
}

/// The ServiceAccount that a pod runs under. The API server fills the field; a manifest on disk may lack it.
pub(super) fn account(pod: &Pod) -> &str {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    account.filter(|name| !name.is_empty()).unwrap_or("default")
}

fn member<'a>(cluster: &ClusterId, inputs: &Inputs, key: &'a Key, pod: &'a Pod) -> Member<'a> {
    let addresses = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    Member {
        id: ProxyId { cluster: cluster.clone(), namespace: key.0.clone(), instance: key.1.clone() },
        key,
        pod,
        identity: SpiffeId {
            trust_domain: inputs.trust_domain.clone(),
            namespace: key.0.clone(),
            service_account: account(pod).to_owned(),
        },
        addresses: addresses.filter_map(|address| address.ip.parse().ok()).collect(),
    }
}

/// The ports that Services send to, by pod.
pub(super) type ServedPorts<'a> = BTreeMap<&'a Key, BTreeMap<u16, Protocol>>;

/// Adds every member with its class to the mesh.
pub(super) fn add(
    pods: &Pods<'_>,
    served: &ServedPorts<'_>,
    settings: &Settings,
    mesh: &mut Mesh,
    findings: &mut Vec<Finding>,
) {
    for (key, member) in &pods.members {
        let mut ports = served.get(key).cloned().unwrap_or_default();
        for port in declared(member.pod).filter(|port| is_tcp(port)) {
            let Some(number) = u16::try_from(port.container_port).ok().filter(|number| *number != 0) else {
                continue;
            };
            if RESERVED_PORTS.contains(&number) {
                findings.push(reserved(member.object(), number));
            } else {
                ports.entry(number).or_insert_with(|| protocol_of(None, port.name.as_deref()));
            }
        }
        let namespace = &member.id.namespace;
        let class = Class {
            identity: member.identity.clone(),
            ports,
            access: settings.access(namespace),
            mtls: settings.mtls(namespace),
        };
        let id = class_id(&member.id.cluster, &class);
        let (kind, name) = owner(member.pod);
        let workload = Workload { identity: member.identity.clone(), kind, name, class: id.clone() };
        mesh.workloads.insert(member.id.clone(), Arc::new(workload));
        mesh.classes.insert(id, Arc::new(class));
    }
}

fn reserved(object: ObjectRef, port: u16) -> Finding {
    let all = RESERVED_PORTS.map(|port| port.to_string()).join(", ");
    Finding::new(
        object,
        Reason::ReservedPort,
        format!("declares container port {port}, which the proxy needs for itself ({all}); it is not served"),
    )
    .hint("let the application listen on another port")
}

/// The name of a class: its account, and a digest of all that makes its listener. The access mode does not: a switch
/// must move no proxy to another class. Clusters may differ in their modes, so a class is one cluster's.
fn class_id(cluster: &ClusterId, class: &Class) -> ClassId {
    let Class { identity, ports, access: _, mtls } = class;
    let mut text = format!("{cluster} {identity} {mtls:?}");
    for (port, protocol) in ports {
        // Writing to a String cannot fail.
        let _ = write!(text, " {port}={protocol:?}");
    }
    let digest = Sha256::digest(text.as_bytes());
    let mut short = String::new();
    for byte in digest.iter().take(6) {
        let _ = write!(short, "{byte:02x}");
    }
    ClassId(format!("{}/{}/{short}", identity.namespace, identity.service_account))
}

/// The distinct identities of some members.
pub(super) fn identities<'a>(members: impl IntoIterator<Item = &'a Member<'a>>) -> BTreeSet<SpiffeId> {
    members.into_iter().map(|member| member.identity.clone()).collect()
}
