//! Typed access to other nodes and to the objects of a cluster, for the code that computes a node.
//!
//! Sits between `engine`, which records what is read, and `kubernetes` and `smi`. The inputs are not accessible: a node
//! reads the object of its own name, and everything else, settings and domains included, is another node. Computes
//! nothing itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use smidge_crds::{
    config::MeshConfig,
    object::Kind,
    specs::{HttpRouteGroupSpec, TcpRouteSpec, UdpRouteSpec},
};
use smidge_mesh::{
    access::{AccessMode, Grant, MtlsMode, Ports},
    id::{ClassId, ClusterId, ProxyId, ServiceId, SpiffeId, TrustDomain},
    service::{Endpoint, Protocol},
    workload::Class,
};

use super::{
    engine,
    node::Node,
    source::Lower,
    value::{
        Age, ExternalClaims, Group, IdentityPorts, KubePod, KubeService, Load, Measured, MeshWide, PodPorts,
        Protocols, RuledPorts, SplitSpec, Splits, TargetGrant, TargetsOverBudget, variant,
    },
};
use crate::{
    external_workload,
    inputs::{Inputs, Key, Objects, Shared},
};

/// Context of the node that is being computed.
pub(super) type Context<'a> = engine::Context<'a, Lower>;

/// Reads a node that has values of one variant.
macro_rules! read {
    ($context:expr, $node:expr, $variant:ident) => {
        $context.read($node).and_then(|value| variant!(value, $variant))
    };
}

impl<'a> Context<'a> {
    /// The cluster.
    pub fn cluster(&self) -> &'a ClusterId {
        &self.source().cluster
    }

    /// Object of the node's own name, from one list.
    pub fn object<K: Clone>(&self, list: fn(&Inputs) -> &Objects<K>) -> Option<&'a Shared<K>> {
        list(&self.source().inputs).get(&self.node().key()?)
    }

    /// All MeshConfigs, for `Node::MeshWide` alone, which a change of any of them invalidates.
    pub fn mesh_configs(&self) -> impl Iterator<Item = (&'a Key, &'a Shared<MeshConfig>)> + use<'a> {
        debug_assert_eq!(**self.node(), Node::MeshWide);
        self.source().inputs.mesh_configs.iter()
    }

    /// Reason for which an object cannot be read, if there is one; for its own node and `Node::MeshWide`.
    pub fn unreadable(&self, kind: &str, key: &Key) -> Option<&'a String> {
        debug_assert!(matches!(**self.node(), Node::MeshWide | Node::Unreadable(..)), "{:?}", self.node());
        self.source().inputs.unreadable.get(&(kind.to_owned(), key.clone()))
    }

    /// Returns true if a definition is absent; for `Node::Absent` alone.
    pub fn is_absent(&self, definition: &str) -> bool {
        debug_assert!(matches!(**self.node(), Node::Absent(_)), "{:?}", self.node());
        self.source().inputs.absent_kinds.contains(definition)
    }

    /// Setting that the node is about; a change of the setting invalidates the node.
    pub fn setting<T>(&self, read: fn(&Inputs) -> T) -> T {
        let is_setting = matches!(
            **self.node(),
            Node::TrustDomain | Node::ClusterDomain | Node::SystemNamespace | Node::MeshWide
        );
        debug_assert!(is_setting, "{:?}", self.node());
        read(&self.source().inputs)
    }

    /// The mesh's trust domain.
    pub fn trust_domain(&mut self) -> TrustDomain {
        read!(self, Node::TrustDomain, TrustDomain).unwrap_or_default()
    }

    /// Returns the identity of an account of this cluster.
    pub fn identity(&mut self, namespace: &str, account: &str) -> SpiffeId {
        SpiffeId {
            trust_domain: self.trust_domain(),
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
        }
    }

    /// Returns the name in the mesh of a pod of this cluster, with a proxy or without.
    pub fn proxy_id(&self, pod: &Key) -> ProxyId {
        let (namespace, instance) = pod.clone();
        ProxyId { cluster: self.cluster().clone(), namespace, instance }
    }

    /// The domain under which the cluster's DNS serves Services.
    pub fn cluster_domain(&mut self) -> Arc<str> {
        read!(self, Node::ClusterDomain, Text).unwrap_or_else(|| Arc::from(""))
    }

    /// The namespace that Smidge itself runs in.
    pub fn system_namespace(&mut self) -> Arc<str> {
        read!(self, Node::SystemNamespace, Text).unwrap_or_else(|| Arc::from(""))
    }

    /// The settings of the mesh as a whole.
    pub fn mesh_wide(&mut self) -> MeshWide {
        read!(self, Node::MeshWide, MeshWide).unwrap_or_default()
    }

    /// The modes of a namespace.
    pub fn modes(&mut self, namespace: &str) -> (AccessMode, MtlsMode) {
        read!(self, Node::Modes(namespace.to_owned()), Modes).unwrap_or_else(|| {
            let MeshWide { access, mtls, .. } = self.mesh_wide();
            (access, mtls)
        })
    }

    /// Returns true if the pods of a namespace are in the mesh.
    pub fn injects(&mut self, namespace: &str) -> bool {
        self.read(Node::InjectsNamespace(namespace.to_owned())).is_some()
    }

    /// The HTTPRouteGroup of that name.
    pub fn group(&mut self, key: Key) -> Option<Arc<Group>> {
        read!(self, Node::Object(HttpRouteGroupSpec::KIND, key), Group)
    }

    /// The first HTTPRouteGroup of a namespace that has a match of that name.
    pub fn group_with_match(&mut self, namespace: &str, name: &str) -> Option<String> {
        let groups = self.members(Node::GroupsWithMatch(namespace.to_owned(), name.to_owned()));
        groups.first().and_then(|group| group.key()).map(|(_, name)| name)
    }

    /// The ports of the TCPRoute of that name.
    pub fn tcp_route(&mut self, key: Key) -> Option<Ports> {
        read!(self, Node::Object(TcpRouteSpec::KIND, key), Ports)
    }

    /// Returns true if there is a UDPRoute of that name. Its ports are not used: UDP is not proxied.
    pub fn is_udp_route(&mut self, key: Key) -> bool {
        self.read(Node::Object(UdpRouteSpec::KIND, key)).is_some()
    }

    /// The pod of that name, unless it has ended, or the ExternalWorkload of that instance.
    pub fn pod(&mut self, key: &Key) -> Option<Arc<KubePod>> {
        let node = match external_workload::name(&key.1) {
            Some(name) => Node::ExternalInstance((key.0.clone(), name.to_owned())),
            None => Node::Pod(key.clone()),
        };
        read!(self, node, Pod)
    }

    /// Returns true if a pod is ready by what its node reported last.
    pub fn is_reported_ready(&mut self, pod: &Key) -> bool {
        self.read(Node::ReportedReady(pod.clone())).is_some()
    }

    /// Returns true if a pod has an address.
    pub fn has_pod_at(&mut self, address: IpAddr) -> bool {
        self.is_any(Node::PodsAtAddress(address))
    }

    /// Claims of a contributor.
    pub fn claims(&self, contributor: &Node) -> Option<Arc<ExternalClaims>> {
        variant!(self.value(contributor)?, Claims).map(Arc::clone)
    }

    /// The ExternalWorkload that holds an address.
    pub fn address_holder(&mut self, address: IpAddr) -> Option<Key> {
        read!(self, Node::AddressHolder(address), Holder)
    }

    /// The pods of a namespace by name.
    pub fn pods_of(&mut self, namespace: &str) -> Vec<Arc<KubePod>> {
        let members = self.members(Node::PodsInNamespace(namespace.to_owned()));
        members.iter().filter_map(|node| self.instance(node)).collect()
    }

    /// Returns true if a pod of a namespace runs under a ServiceAccount, in the mesh or not.
    pub fn has_account(&mut self, namespace: &str, account: &str) -> bool {
        self.read(Node::AccountHasPods(namespace.to_owned(), account.to_owned())).is_some()
    }

    /// Returns true if a namespace has pods, in the mesh or not.
    pub fn has_pods(&mut self, namespace: &str) -> bool {
        self.read(Node::NamespaceHasPods(namespace.to_owned())).is_some()
    }

    /// The pods of a namespace that carry all these labels; no pod if there is no label.
    pub fn selected(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Arc<KubePod>> {
        let set = |(name, value): (&String, &String)| {
            Node::PodsWithLabel(namespace.to_owned(), name.clone(), value.clone())
        };
        // Starts from the rarest label: one that every pod has would make this quadratic.
        let rarest = labels.iter().map(set).min_by_key(|set| self.count(set));
        let Some(rarest) = rarest else { return Vec::new() };
        let members = self.members(rarest);
        let carries =
            |pod: &Arc<KubePod>| labels.iter().all(|(name, value)| pod.labels.get(name) == Some(value));
        members.iter().filter_map(|node| self.instance(node)).filter(carries).collect()
    }

    /// Pod of a set: the set invalidates its dependents when the pod changes.
    fn instance(&self, node: &Node) -> Option<Arc<KubePod>> {
        variant!(self.value(node)?, Pod).map(Arc::clone)
    }

    /// The identities that an IdentityBinding resolves to.
    pub fn binding(&mut self, key: Key) -> Option<Arc<BTreeSet<Arc<SpiffeId>>>> {
        read!(self, Node::Binding(key), Identities)
    }

    /// The grant of a TrafficTarget, and its destinations.
    pub fn target(&mut self, key: &Key) -> Option<Arc<TargetGrant>> {
        read!(self, Node::Target(key.clone()), TargetGrant)
    }

    /// The ports of a destination identity for which TrafficTargets have rules.
    pub fn ruled_ports(&mut self, identity: &SpiffeId) -> Option<Arc<RuledPorts>> {
        read!(self, Node::RuledPorts(identity.clone()), RuledPorts)
    }

    /// All grants of a destination identity.
    pub fn grants(&mut self, identity: &SpiffeId) -> Option<Arc<Vec<Arc<Grant>>>> {
        read!(self, Node::Grants(identity.clone()), Grants)
    }

    /// Returns true if a TrafficTarget has an identity as its destination.
    pub fn is_granted(&mut self, identity: &SpiffeId) -> bool {
        self.read(Node::IsGranted(identity.clone())).is_some()
    }

    /// The slices of a Service by name.
    pub fn slices(&mut self, service: &ServiceId) -> Vec<Shared<EndpointSlice>> {
        let members = self.members(Node::SlicesOfService(service.clone()));
        let slice = |node: &Arc<Node>| variant!(self.value(node)?, Slice).cloned();
        members.iter().filter_map(slice).collect()
    }

    /// The Service of that name.
    pub fn kube_service(&mut self, id: &ServiceId) -> Option<Arc<KubeService>> {
        read!(self, Node::KubeService(id.clone()), KubeService)
    }

    /// Returns true if there is a Service of that name.
    pub fn is_service(&mut self, id: &ServiceId) -> bool {
        self.read(Node::ServiceExists(id.clone())).is_some()
    }

    /// Returns true if a Service is only an alias of a name elsewhere.
    pub fn is_external_name(&mut self, id: &ServiceId) -> bool {
        self.read(Node::ExternalName(id.clone())).is_some()
    }

    /// Returns true if a Service has pods in the mesh.
    pub fn has_members(&mut self, id: &ServiceId) -> bool {
        self.read(Node::HasMembers(id.clone())).is_some()
    }

    /// The endpoints of each port of a Service.
    pub fn endpoints(&mut self, id: &ServiceId) -> Arc<BTreeMap<u16, Vec<Endpoint>>> {
        read!(self, Node::Endpoints(id.clone()), Endpoints).unwrap_or_default()
    }

    /// A TrafficSplit as written.
    pub fn split_spec(&mut self, key: &Key) -> Option<Arc<SplitSpec>> {
        read!(self, Node::SplitSpec(key.clone()), SplitSpec)
    }

    /// The splits of a namespace that do not fit into the budgets.
    pub fn splits_over_budget(&mut self, namespace: &str) -> Arc<BTreeSet<Key>> {
        read!(self, Node::SplitsOverBudget(namespace.to_owned()), SplitsOverBudget).unwrap_or_default()
    }

    /// The protocols of the ports on which a Service is called.
    pub fn protocols(&mut self, id: &ServiceId) -> Arc<Protocols> {
        read!(self, Node::Protocols(id.clone()), Protocols).unwrap_or_default()
    }

    /// The load that a Service adds to the proxies of its callers.
    pub fn service_load(&mut self, id: &ServiceId) -> Load {
        read!(self, Node::ServiceLoad(id.clone()), Load).unwrap_or_default()
    }

    /// The load that the Services of an identity add to the proxies of their callers.
    pub fn identity_load(&mut self, identity: &SpiffeId) -> Load {
        read!(self, Node::IdentityLoad(identity.clone()), Load).unwrap_or_default()
    }

    /// The targets of a namespace that do not fit into the budgets.
    pub fn targets_over_budget(&mut self, namespace: &str) -> Arc<TargetsOverBudget> {
        read!(self, Node::TargetsOverBudget(namespace.to_owned()), TargetsOverBudget).unwrap_or_default()
    }

    /// Returns true if any split has this root, in effect or not.
    pub fn is_root(&mut self, id: &ServiceId) -> bool {
        self.is_any(Node::SplitsOfRoot(id.clone()))
    }

    /// The splits that are in effect for a root.
    pub fn splits(&mut self, root: &ServiceId) -> Option<Arc<Splits>> {
        read!(self, Node::Splits(root.clone()), Splits)
    }

    /// Returns true if a split is in effect for a root.
    pub fn has_split(&mut self, root: &ServiceId) -> bool {
        self.read(Node::HasSplit(root.clone())).is_some()
    }

    /// Returns true if a split in effect sends to a Service.
    pub fn is_sent_to(&mut self, id: &ServiceId) -> bool {
        self.is_any(Node::SplitsToService(id.clone()))
    }

    /// The addresses and ports on which a Service would be called; `None` if it is not in the mesh.
    pub fn claimed_addresses(&mut self, id: &ServiceId) -> Option<Arc<BTreeSet<(IpAddr, u16)>>> {
        read!(self, Node::ClaimedAddresses(id.clone()), ClaimedAddresses)
    }

    /// Age of a contributing Service that claims an address.
    pub fn claimant(&self, contributor: &Node) -> Option<&Age> {
        variant!(self.part(contributor)?, Age).map(|age| &**age)
    }

    /// The ports of a contributing Service that lead to a pod.
    pub fn pod_ports(&self, contributor: &Node) -> Option<Arc<PodPorts>> {
        variant!(self.part(contributor)?, PodPorts).map(Arc::clone)
    }

    /// The Service that owns an address and port.
    pub fn address_owner(&mut self, address: IpAddr, port: u16) -> Option<ServiceId> {
        read!(self, Node::AddressOwner(address, port), Owner)
    }

    /// The ports of a pod that Services send to, with the protocols that these declare.
    pub fn served_ports(&mut self, pod: &Key) -> Arc<BTreeMap<u16, Option<Protocol>>> {
        read!(self, Node::ServedPorts(pod.clone()), ServedPorts).unwrap_or_default()
    }

    /// The ports of an identity's workloads; `None` if it has none in the mesh.
    pub fn identity_ports(&mut self, identity: &SpiffeId) -> Option<Arc<IdentityPorts>> {
        read!(self, Node::IdentityPorts(identity.clone()), IdentityPorts)
    }

    /// The pods of the workload with a namespace, kind and name.
    pub fn pods_of_workload(&mut self, (namespace, kind, name): (&str, &str, &str)) -> Vec<Key> {
        let set = Node::PodsOfWorkload(namespace.to_owned(), kind.to_owned(), name.to_owned());
        self.members(set).iter().filter_map(|pod| pod.key()).collect()
    }

    /// The class of a pod's workload instance; `None` if the pod is not in the mesh.
    pub fn class_of_pod(&mut self, pod: &Key) -> Option<(ClassId, Arc<Class>)> {
        let (workload, class) = read!(self, Node::Workload(pod.clone()), Workload)?;
        Some((workload.class.clone(), class))
    }

    /// The routes that a contributing MetricsPolicy, or one that was read as a member of a set, has measured.
    pub fn measured(&self, policy: &Node) -> Option<Arc<Measured>> {
        variant!(self.value(policy)?, Measured).map(Arc::clone)
    }

    /// The MetricsPolicies about a namespace as a whole.
    pub fn policies_of_namespace(&mut self, namespace: &str) -> Vec<Arc<Node>> {
        self.members(Node::PoliciesOfNamespace(namespace.to_owned()))
    }

    /// Class of a workload instance that contributes.
    pub fn class(&self, contributor: &Node) -> Option<Arc<Class>> {
        variant!(self.value(contributor)?, Workload).map(|(_, class)| Arc::clone(class))
    }

    /// Class that contributes.
    pub fn class_of(&self, contributor: &Node) -> Option<Arc<Class>> {
        variant!(self.value(contributor)?, Class).map(Arc::clone)
    }
}
