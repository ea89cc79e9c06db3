//! Context in which a node is computed: its own object, and other nodes, each of which becomes a dependency when it is read.
//!
//! Handed by `graph` to `lower::compute`. What is read here, and only that, invalidates the node when it changes. So the
//! inputs are out of reach: a node gets the object of its own name, and everything else, settings and domains included, is
//! another node. Computes nothing itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use smidge_crds::config::MeshConfig;
use smidge_xds::mesh::{
    access::{AccessMode, Grant, MtlsMode, Ports},
    id::{ClusterId, ServiceId, SpiffeId, TrustDomain},
    service::{Endpoint, Protocol},
};

use super::{
    access::TargetGrant,
    budget::{Load, Losses},
    graph::{Computed, Graph},
    node::{Node, Value, variant},
    route::Group,
    service::KubeService,
    settings::MeshWide,
    split::{Split, SplitSpec},
    workload::KubePod,
};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key, Objects, Shared},
};

/// Context of the node that is being computed.
pub(super) struct Context<'a> {
    graph: &'a mut Graph,
    node: &'a Arc<Node>,
    pub cluster: &'a ClusterId,
    inputs: &'a Inputs,
    computed: Computed,
}

/// Reads a node that has values of one variant.
macro_rules! ask {
    ($context:expr, $node:expr, $variant:ident) => {
        $context.ask($node).and_then(|value| variant!(value, $variant))
    };
}

impl<'a> Context<'a> {
    pub fn new(
        graph: &'a mut Graph,
        node: &'a Arc<Node>,
        cluster: &'a ClusterId,
        inputs: &'a Inputs,
    ) -> Self {
        Self { graph, node, cluster, inputs, computed: Computed::default() }
    }

    pub fn done(self) -> Computed {
        self.computed
    }

    /// Reports a finding.
    pub fn report(&mut self, finding: Finding) {
        self.computed.findings.push(finding);
    }

    /// Reports a finding about a field of an object.
    pub fn report_at(
        &mut self,
        object: &ObjectRef,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.report(Finding::new(object.clone(), reason, message).at(field));
    }

    /// The findings reported so far.
    pub fn findings(&mut self) -> &mut Vec<Finding> {
        &mut self.computed.findings
    }

    /// Makes the node a part of another one, which is computed from its contributors.
    pub fn contribute_to(&mut self, node: Node) {
        let node = self.graph.intern(node);
        debug_assert!(
            node > *self.node,
            "{:?} contributes to {node:?}, which is computed before it",
            self.node
        );
        self.computed.contributes_to.push(node);
    }

    fn ask(&mut self, node: Node) -> Option<Value> {
        debug_assert!(node < **self.node, "{:?} reads {node:?}, which is computed after it", self.node);
        let (node, value) = self.graph.ask(node, self.cluster, self.inputs);
        self.computed.dependencies.push(node);
        value
    }

    /// The members of a set.
    fn members(&mut self, set: Node) -> Vec<Arc<Node>> {
        let set = self.graph.intern(set);
        let members = self.graph.contributors(&set).cloned().collect();
        self.computed.dependencies.push(set);
        members
    }

    /// Returns whether a set has members.
    fn is_any(&mut self, set: Node) -> bool {
        let set = self.graph.intern(set);
        let is_any = self.graph.count(&set) > 0;
        self.computed.dependencies.push(set);
        is_any
    }

    /// Object of the node's own name, out of one list.
    pub fn object<K: Clone>(&self, list: fn(&Inputs) -> &Objects<K>) -> Option<&'a Shared<K>> {
        list(self.inputs).get(&self.node.key()?)
    }

    /// All MeshConfigs, for `Node::MeshWide` alone, which a change of any of them invalidates.
    pub fn mesh_configs(&self) -> impl Iterator<Item = (&'a Key, &'a Shared<MeshConfig>)> + use<'a> {
        debug_assert_eq!(**self.node, Node::MeshWide);
        self.inputs.mesh_configs.iter()
    }

    /// Reason why an object cannot be read, if it cannot; for its own node and `Node::MeshWide`.
    pub fn unreadable(&self, kind: &str, key: &Key) -> Option<&'a String> {
        debug_assert!(matches!(**self.node, Node::MeshWide | Node::Unreadable(..)), "{:?}", self.node);
        self.inputs.unreadable.get(&(kind.to_owned(), key.clone()))
    }

    /// Returns whether a definition is absent; for `Node::Absent` alone.
    pub fn is_absent(&self, definition: &str) -> bool {
        debug_assert!(matches!(**self.node, Node::Absent(_)), "{:?}", self.node);
        self.inputs.absent_kinds.contains(definition)
    }

    /// Setting of the node, which a change of it invalidates.
    pub fn setting<T>(&self, read: fn(&Inputs) -> T) -> T {
        let is_setting =
            matches!(**self.node, Node::TrustDomain | Node::ClusterDomain | Node::SystemNamespace);
        debug_assert!(is_setting, "{:?}", self.node);
        read(self.inputs)
    }

    /// The mesh's trust domain.
    pub fn trust_domain(&mut self) -> TrustDomain {
        ask!(self, Node::TrustDomain, TrustDomain).unwrap_or_default()
    }

    /// The domain under which the cluster's DNS serves Services.
    pub fn cluster_domain(&mut self) -> Arc<str> {
        ask!(self, Node::ClusterDomain, Text).unwrap_or_else(|| Arc::from(""))
    }

    /// The namespace that Smidge itself runs in.
    pub fn system_namespace(&mut self) -> Arc<str> {
        ask!(self, Node::SystemNamespace, Text).unwrap_or_else(|| Arc::from(""))
    }

    /// Nodes that contribute to the node. No dependency is noted: a contributor that changes invalidates it anyway.
    pub fn contributors(&self) -> Vec<Arc<Node>> {
        self.graph.contributors(self.node).cloned().collect()
    }

    /// The settings of the mesh as a whole.
    pub fn mesh_wide(&mut self) -> MeshWide {
        ask!(self, Node::MeshWide, MeshWide).unwrap_or_default()
    }

    /// The modes of a namespace.
    pub fn modes(&mut self, namespace: &str) -> (AccessMode, MtlsMode) {
        if let Some(Value::Modes(access, mtls)) = self.ask(Node::Modes(namespace.to_owned())) {
            return (access, mtls);
        }
        let MeshWide { access, mtls, .. } = self.mesh_wide();
        (access, mtls)
    }

    /// Returns whether the pods of a namespace are in the mesh.
    pub fn injects(&mut self, namespace: &str) -> bool {
        self.ask(Node::InjectsNamespace(namespace.to_owned())).is_some()
    }

    /// The HTTPRouteGroup of that name.
    pub fn group(&mut self, key: Key) -> Option<Arc<Group>> {
        ask!(self, Node::Group(key), Group)
    }

    /// The ports of the TCPRoute of that name.
    pub fn tcp_route(&mut self, key: Key) -> Option<Ports> {
        ask!(self, Node::TcpRoute(key), Ports)
    }

    /// Returns whether there is a UDPRoute of that name. Nothing is done with its ports: UDP is not proxied.
    pub fn is_udp_route(&mut self, key: Key) -> bool {
        self.ask(Node::UdpRoute(key)).is_some()
    }

    /// The pod of that name, unless it has ended.
    pub fn pod(&mut self, key: &Key) -> Option<Arc<KubePod>> {
        ask!(self, Node::Pod(key.clone()), Pod)
    }

    /// The pods of a namespace by name.
    pub fn pods_of(&mut self, namespace: &str) -> Vec<Arc<KubePod>> {
        let members = self.members(Node::PodsInNamespace(namespace.to_owned()));
        members.iter().filter_map(|node| self.instance(node)).collect()
    }

    /// The pods of a namespace that carry all these labels. None of them selects nothing.
    pub fn selected(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Arc<KubePod>> {
        let set = |(name, value): (&String, &String)| {
            Node::PodsWithLabel(namespace.to_owned(), name.clone(), value.clone())
        };
        // The rarest label: one that every pod has would make this quadratic.
        let rarest = labels.iter().map(set).min_by_key(|set| self.graph.count(set));
        let Some(rarest) = rarest else { return Vec::new() };
        let members = self.members(rarest);
        let carries =
            |pod: &Arc<KubePod>| labels.iter().all(|(name, value)| pod.labels.get(name) == Some(value));
        members.iter().filter_map(|node| self.instance(node)).filter(carries).collect()
    }

    /// Pod of a set: the set invalidates its dependents when the pod changes.
    fn instance(&self, node: &Node) -> Option<Arc<KubePod>> {
        variant!(self.graph.value(node)?, Pod).map(Arc::clone)
    }

    /// The identities that an IdentityBinding stands for.
    pub fn binding(&mut self, key: Key) -> Option<Arc<BTreeSet<Arc<SpiffeId>>>> {
        ask!(self, Node::Binding(key), Identities)
    }

    /// What a TrafficTarget allows.
    pub fn target(&mut self, key: &Key) -> Option<Arc<TargetGrant>> {
        ask!(self, Node::Target(key.clone()), TargetGrant)
    }

    /// All that an identity allows.
    pub fn grants(&mut self, identity: &SpiffeId) -> Option<Arc<Vec<Arc<Grant>>>> {
        ask!(self, Node::Grants(identity.clone()), Grants)
    }

    /// Returns whether a TrafficTarget has an identity as its destination.
    pub fn is_granted(&mut self, identity: &SpiffeId) -> bool {
        self.ask(Node::IsGranted(identity.clone())).is_some()
    }

    /// The slices of a Service by name.
    pub fn slices(&mut self, service: &ServiceId) -> Vec<Shared<EndpointSlice>> {
        let members = self.members(Node::SlicesOfService(service.clone()));
        let slice = |node: &Arc<Node>| variant!(self.graph.value(node)?, Slice).cloned();
        members.iter().filter_map(slice).collect()
    }

    /// The Service of that name.
    pub fn kube_service(&mut self, id: &ServiceId) -> Option<Arc<KubeService>> {
        ask!(self, Node::KubeService(id.clone()), KubeService)
    }

    /// Returns whether there is a Service of that name.
    pub fn is_service(&mut self, id: &ServiceId) -> bool {
        self.ask(Node::ServiceExists(id.clone())).is_some()
    }

    /// Returns whether a Service has pods in the mesh.
    pub fn has_members(&mut self, id: &ServiceId) -> bool {
        self.ask(Node::HasMembers(id.clone())).is_some()
    }

    /// The endpoints of each port of a Service.
    pub fn endpoints(&mut self, id: &ServiceId) -> Arc<BTreeMap<u16, Vec<Endpoint>>> {
        ask!(self, Node::Endpoints(id.clone()), Endpoints).unwrap_or_default()
    }

    /// A TrafficSplit as written.
    pub fn split_spec(&mut self, key: &Key) -> Option<Arc<SplitSpec>> {
        ask!(self, Node::SplitSpec(key.clone()), SplitSpec)
    }

    /// The splits of a namespace that do not fit into the budgets.
    pub fn splits_over_budget(&mut self, namespace: &str) -> Arc<BTreeSet<Key>> {
        ask!(self, Node::SplitsOverBudget(namespace.to_owned()), SplitsOverBudget).unwrap_or_default()
    }

    /// What a Service puts into the proxies of its callers.
    pub fn service_load(&mut self, id: &ServiceId) -> Load {
        ask!(self, Node::ServiceLoad(id.clone()), Load).unwrap_or_default()
    }

    /// What the Services of an identity put into the proxies of their callers.
    pub fn identity_load(&mut self, identity: &SpiffeId) -> Load {
        ask!(self, Node::IdentityLoad(identity.clone()), Load).unwrap_or_default()
    }

    /// The targets of a namespace that do not fit into the budgets.
    pub fn targets_over_budget(&mut self, namespace: &str) -> Arc<Losses> {
        ask!(self, Node::TargetsOverBudget(namespace.to_owned()), TargetsOverBudget).unwrap_or_default()
    }

    /// Returns whether any split has this root, in effect or not.
    pub fn is_root(&mut self, id: &ServiceId) -> bool {
        self.is_any(Node::SplitsOfRoot(id.clone()))
    }

    /// The split that is in effect for a root.
    pub fn split(&mut self, root: &ServiceId) -> Option<Arc<Split>> {
        ask!(self, Node::Split(root.clone()), Split)
    }

    /// Returns whether there is one.
    pub fn has_split(&mut self, root: &ServiceId) -> bool {
        self.ask(Node::HasSplit(root.clone())).is_some()
    }

    /// Returns whether a split in effect sends to a Service.
    pub fn is_sent_to(&mut self, id: &ServiceId) -> bool {
        self.is_any(Node::SplitsToService(id.clone()))
    }

    /// The addresses and ports that a Service would be called by; `None` if it is not in the mesh.
    pub fn claimed_addresses(&mut self, id: &ServiceId) -> Option<Arc<BTreeSet<(IpAddr, u16)>>> {
        ask!(self, Node::ClaimedAddresses(id.clone()), ClaimedAddresses)
    }

    /// The Service that has an address and port.
    pub fn address_owner(&mut self, address: IpAddr, port: u16) -> Option<ServiceId> {
        ask!(self, Node::AddressOwner(address, port), Owner)
    }

    /// The ports of a pod that Services send to.
    pub fn served_ports(&mut self, pod: &Key) -> Arc<BTreeMap<u16, Protocol>> {
        ask!(self, Node::ServedPorts(pod.clone()), ServedPorts).unwrap_or_default()
    }

    /// Class of a workload instance that contributes.
    pub fn class(&self, contributor: &Node) -> Option<Arc<smidge_xds::mesh::workload::Class>> {
        variant!(self.graph.value(contributor)?, Workload).map(|(_, class)| Arc::clone(class))
    }
}
