//! Service as the cluster has it, and its ports: what is known of it before it is a Service of the mesh.
//!
//! A value of `kubernetes::service`, read by all that computes from Services. Reads no object and reports nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString};
use smidge_crds::redirected::RedirectedPorts;
use smidge_mesh::{
    id::{ProxyId, ServiceId},
    proxy,
    service::{Protocol, Server},
};

use super::{KubePod, MeshPod, MeshPods, Targets};
use crate::{finding::ObjectRef, inputs::Key};

/// A Service as the cluster has it.
#[derive(Debug, PartialEq)]
pub(crate) struct KubeService {
    pub id: ServiceId,
    pub object: ObjectRef,
    pub created: Option<Time>,
    /// Its TCP ports by number.
    pub ports: BTreeMap<u16, Port>,
    /// Its own pods that are in the mesh, ready or not.
    pub members: MeshPods,
    /// Its pods that are not in the mesh, by name.
    pub outside: BTreeMap<Key, OutsidePod>,
    /// Its other endpoints, which are not in the mesh either, in words: addresses, or pods that are not known.
    pub unknown_names: BTreeSet<String>,
    /// True if it has a selector for its pods; without one, only EndpointSlices list its endpoints.
    pub has_selector: bool,
    /// Addresses that the API server allocated; empty for a headless Service.
    pub cluster_addresses: BTreeSet<IpAddr>,
    pub is_headless: bool,
}

/// A pod of a Service that is not in the mesh.
#[derive(Debug, PartialEq)]
pub(crate) struct OutsidePod {
    pub pod: Arc<KubePod>,
    /// The name of its endpoint, if callers of the mesh reach it in plaintext.
    pub plain: Option<ProxyId>,
}

/// A TCP port of a Service.
#[derive(Debug, PartialEq)]
pub(crate) struct Port {
    pub field: String,
    pub number: u16,
    /// Name; empty for the only port without a name.
    pub name: String,
    /// The protocol that it declares, if it does.
    pub declared: Option<Protocol>,
    pub target: Option<IntOrString>,
    /// Members behind the port, each with its own port.
    pub targets: Targets,
}

/// Key of precedence of a Service: when it was created, and its name. The lesser one is older and wins, as a newer one must
/// not take anything over.
pub(crate) type Age = (Option<Time>, ServiceId);

/// Ports of a Service that lead to one pod.
#[derive(Debug, PartialEq)]
pub(crate) struct PodPorts {
    pub age: Age,
    pub ports: Vec<PodPort>,
}

/// Port of a Service that leads to a pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodPort {
    pub field: String,
    pub number: u16,
    /// The protocol that it declares, if it does.
    pub declared: Option<Protocol>,
    /// Port of the pod.
    pub target: u16,
}

impl Port {
    /// Returns the port of a pod that this port sends to.
    pub fn target(&self, member: &MeshPod) -> Option<u16> {
        match &self.target {
            // An unset number is 0 on the wire.
            None | Some(IntOrString::Int(0)) => Some(self.number),
            Some(IntOrString::Int(target)) => u16::try_from(*target).ok(),
            Some(IntOrString::String(name)) if name.is_empty() => Some(self.number),
            Some(IntOrString::String(name)) => member.named_port(name),
        }
    }

    fn leading_to(&self, target: u16) -> PodPort {
        let Self { field, number, declared, .. } = self;
        PodPort { field: field.clone(), number: *number, declared: *declared, target }
    }

    /// Returns the identities and ports behind this port, ready or not, without ports that the proxy needs for itself.
    pub fn servers(&self) -> impl Iterator<Item = Server> {
        let targets = self.targets.iter().filter(|(_, target)| !proxy::PORTS.contains(target));
        targets.map(|(member, target)| Server { identity: member.identity.clone(), port: *target })
    }
}

impl KubeService {
    /// Returns the addresses that callers dial.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        if self.is_headless {
            // The address of an ExternalWorkload is only what its namespace writes: calls to it must not be taken from
            // other callers for that.
            let pods = self.members.iter().filter(|member| !member.is_external());
            let inside = pods.flat_map(|member| member.addresses.iter().copied());
            // Without members, there is no other address to dial; beside members, addresses outside the mesh are left
            // out.
            let outside = self.outside.values().map(|it| &it.pod).filter(|pod| !pod.is_in_node_network);
            let outside = outside.filter(|_| self.has_selector && self.members.is_empty());
            let outside = outside.flat_map(|pod| pod.outside.iter().copied());
            inside.chain(outside).collect()
        } else {
            self.cluster_addresses.clone()
        }
    }

    /// Returns true if it has an endpoint that is not in the mesh.
    pub fn has_outside(&self) -> bool {
        !self.outside.is_empty() || !self.unknown_names.is_empty()
    }

    /// Returns its endpoints that are not in the mesh, in words and in order: those that callers of the mesh reach in
    /// plaintext, and the others.
    pub fn names_outside(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (plain, unreached): (Vec<_>, Vec<_>) = self.outside.values().partition(|it| it.plain.is_some());
        let names = |pods: Vec<&OutsidePod>| pods.into_iter().map(|it| it.pod.name()).collect();
        let (plain, mut unreached): (_, BTreeSet<String>) = (names(plain), names(unreached));
        unreached.extend(self.unknown_names.iter().cloned());
        (plain, unreached)
    }

    /// Returns true if callers of the mesh reach one of its pods in plaintext, as it has no proxy.
    pub fn is_reached_in_plaintext(&self) -> bool {
        self.outside.values().any(|it| it.plain.is_some())
    }

    /// Returns a function that returns true if no proxy is before a port of a pod at its own address, so that callers dial
    /// it as without a mesh.
    pub fn excluded(&self) -> impl Fn(IpAddr, u16) -> bool {
        let partly = self.members.iter().filter(|pod| pod.inbound != RedirectedPorts::default());
        let mut at: BTreeMap<IpAddr, Vec<&RedirectedPorts>> = BTreeMap::new();
        for pod in partly.filter(|_| self.is_headless) {
            for address in &pod.addresses {
                at.entry(*address).or_default().push(&pod.inbound);
            }
        }
        move |address, port| at.get(&address).is_some_and(|pods| pods.iter().any(|it| !it.redirects(port)))
    }

    /// Returns its members by address.
    pub fn pods_by_address(&self) -> BTreeMap<IpAddr, Vec<&Key>> {
        let mut pods: BTreeMap<IpAddr, Vec<&Key>> = BTreeMap::new();
        for member in self.members.iter() {
            for address in &member.addresses {
                pods.entry(*address).or_default().push(&member.key);
            }
        }
        pods
    }

    /// Returns the ports on which it is called, each with the number of the Service's port behind it. The ports of a
    /// headless Service are not translated, so they include the ports of its pods.
    pub fn called_ports(&self) -> BTreeMap<u16, u16> {
        let mut called: BTreeMap<u16, u16> = self.ports.keys().map(|number| (*number, *number)).collect();
        if self.is_headless {
            for port in self.ports.values() {
                for (_, target) in port.targets.iter().filter(|(_, target)| !proxy::PORTS.contains(target)) {
                    called.entry(*target).or_insert(port.number);
                }
            }
        }
        called
    }

    /// Returns the number of ports on which it is called that may be HTTP: a split by matches makes a port HTTP that
    /// declares nothing.
    pub fn http_ports(&self) -> usize {
        let declared = |number: &u16| self.ports.get(number).and_then(|port| port.declared);
        self.called_ports().values().filter(|number| declared(number) != Some(Protocol::Tcp)).count()
    }

    /// Returns the key of precedence.
    pub fn age(&self) -> Age {
        (self.created.clone(), self.id.clone())
    }

    /// Returns the ports that lead to each member, without those that the proxy needs for itself. Members with the same
    /// ports share them.
    pub fn pod_ports(&self) -> Vec<(&Key, Arc<PodPorts>)> {
        let mut all: Vec<(&Key, &Port, u16)> = Vec::new();
        for port in self.ports.values() {
            let targets = port.targets.iter().filter(|(_, target)| !proxy::PORTS.contains(target));
            all.extend(targets.map(|(member, target)| (&member.key, port, *target)));
        }
        all.sort_by_key(|(key, ..)| *key);
        let mut known: HashMap<Vec<(u16, u16)>, Arc<PodPorts>> = HashMap::new();
        let pods = all.chunk_by(|(one, ..), (other, ..)| one == other).filter_map(|ports| {
            let (key, ..) = ports.first()?;
            let numbers = ports.iter().map(|(_, port, target)| (port.number, *target)).collect();
            let shared = known.entry(numbers).or_insert_with(|| {
                let ports = ports.iter().map(|(_, port, target)| port.leading_to(*target)).collect();
                Arc::new(PodPorts { age: self.age(), ports })
            });
            Some((*key, Arc::clone(shared)))
        });
        pods.collect()
    }
}
