//! What a unit may see while it is made: its own objects, and other units, of which each one that it asks for is noted.
//!
//! Handed by `graph` to whoever makes a unit. What is asked for here, and only that, makes the unit due again when it
//! changes. So the inputs are out of reach: a unit gets the object of its own name, and everything else, settings and
//! domains included, is a unit that it asks for.

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
    access::Allowed,
    budget::{Load, Losses},
    graph::{Graph, Made},
    route::Group,
    service::Known,
    settings::MeshWide,
    split::{Split, Written},
    unit::{Unit, Value, variant},
    workload::Instance,
};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key, Objects, Shared},
};

/// The view of a unit that is being made.
pub(super) struct Look<'a> {
    graph: &'a mut Graph,
    unit: &'a Arc<Unit>,
    pub cluster: &'a ClusterId,
    inputs: &'a Inputs,
    made: Made,
}

/// Asks for a unit that has values of one variant.
macro_rules! ask {
    ($look:expr, $unit:expr, $variant:ident) => {
        $look.ask($unit).and_then(|value| variant!(value, $variant))
    };
}

impl<'a> Look<'a> {
    pub fn new(
        graph: &'a mut Graph,
        unit: &'a Arc<Unit>,
        cluster: &'a ClusterId,
        inputs: &'a Inputs,
    ) -> Self {
        Self { graph, unit, cluster, inputs, made: Made::default() }
    }

    pub fn done(self) -> Made {
        self.made
    }

    /// Says something about an object.
    pub fn found(&mut self, finding: Finding) {
        self.made.findings.push(finding);
    }

    /// Says something about a field of an object.
    pub fn found_at(
        &mut self,
        object: &ObjectRef,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.found(Finding::new(object.clone(), reason, message).at(field));
    }

    /// Where findings go.
    pub fn findings(&mut self) -> &mut Vec<Finding> {
        &mut self.made.findings
    }

    /// Gives to another unit, which is then made of this one, too.
    pub fn give(&mut self, unit: Unit) {
        let unit = self.graph.shared(unit);
        debug_assert!(unit > *self.unit, "{:?} gives to {unit:?}, which was made before", self.unit);
        self.made.gives.push(unit);
    }

    fn ask(&mut self, unit: Unit) -> Option<Value> {
        debug_assert!(unit < **self.unit, "{:?} asks for {unit:?}, which is made later", self.unit);
        let (unit, value) = self.graph.ask(unit, self.cluster, self.inputs);
        self.made.reads.push(unit);
        value
    }

    /// The members of a set.
    fn members(&mut self, set: Unit) -> Vec<Arc<Unit>> {
        let set = self.graph.shared(set);
        let members = self.graph.givers(&set).cloned().collect();
        self.made.reads.push(set);
        members
    }

    /// Whether a set has members.
    fn is_any(&mut self, set: Unit) -> bool {
        let set = self.graph.shared(set);
        let is_any = self.graph.count(&set) > 0;
        self.made.reads.push(set);
        is_any
    }

    /// The object that the unit is made of: the one of its own name, out of one list.
    pub fn own<K: Clone>(&self, list: fn(&Inputs) -> &Objects<K>) -> Option<&'a Shared<K>> {
        list(self.inputs).get(&self.unit.key()?)
    }

    /// All MeshConfigs, for `Unit::MeshWide` alone: it is due whenever one of them changes.
    pub fn mesh_configs(&self) -> impl Iterator<Item = (&'a Key, &'a Shared<MeshConfig>)> + use<'a> {
        debug_assert_eq!(**self.unit, Unit::MeshWide);
        self.inputs.mesh_configs.iter()
    }

    /// Why an object cannot be read, if it cannot. For the unit that stands for it, and `Unit::MeshWide`.
    pub fn unreadable(&self, kind: &str, key: &Key) -> Option<&'a String> {
        debug_assert!(matches!(**self.unit, Unit::MeshWide | Unit::Unreadable(..)), "{:?}", self.unit);
        self.inputs.unreadable.get(&(kind.to_owned(), key.clone()))
    }

    /// Whether the definition that `Unit::Absent` stands for is absent.
    pub fn is_absent(&self, definition: &str) -> bool {
        debug_assert!(matches!(**self.unit, Unit::Absent(_)), "{:?}", self.unit);
        self.inputs.absent_kinds.contains(definition)
    }

    /// The setting that the unit stands for, which is due when that changes.
    pub fn setting<T>(&self, read: fn(&Inputs) -> T) -> T {
        let is_setting =
            matches!(**self.unit, Unit::TrustDomain | Unit::ClusterDomain | Unit::SystemNamespace);
        debug_assert!(is_setting, "{:?}", self.unit);
        read(self.inputs)
    }

    /// The mesh's trust domain.
    pub fn trust_domain(&mut self) -> TrustDomain {
        ask!(self, Unit::TrustDomain, TrustDomain).unwrap_or_default()
    }

    /// The domain under which the cluster's DNS serves Services.
    pub fn cluster_domain(&mut self) -> Arc<str> {
        ask!(self, Unit::ClusterDomain, Text).unwrap_or_else(|| Arc::from(""))
    }

    /// The namespace that Smidge itself runs in.
    pub fn system_namespace(&mut self) -> Arc<str> {
        ask!(self, Unit::SystemNamespace, Text).unwrap_or_else(|| Arc::from(""))
    }

    /// Who gives to the unit that is being made. Needs no note: a giver that changes makes it due.
    pub fn givers(&self) -> Vec<Arc<Unit>> {
        self.graph.givers(self.unit).cloned().collect()
    }

    /// The settings of the mesh as a whole.
    pub fn mesh_wide(&mut self) -> MeshWide {
        ask!(self, Unit::MeshWide, MeshWide).unwrap_or_default()
    }

    /// The modes of a namespace.
    pub fn modes(&mut self, namespace: &str) -> (AccessMode, MtlsMode) {
        if let Some(Value::Modes(access, mtls)) = self.ask(Unit::Modes(namespace.to_owned())) {
            return (access, mtls);
        }
        let MeshWide { access, mtls, .. } = self.mesh_wide();
        (access, mtls)
    }

    /// Whether the pods of a namespace are taken into the mesh.
    pub fn injects(&mut self, namespace: &str) -> bool {
        self.ask(Unit::Injects(namespace.to_owned())).is_some()
    }

    /// The HTTPRouteGroup of that name.
    pub fn group(&mut self, key: Key) -> Option<Arc<Group>> {
        ask!(self, Unit::Group(key), Group)
    }

    /// The ports of the TCPRoute of that name.
    pub fn tcp_route(&mut self, key: Key) -> Option<Ports> {
        ask!(self, Unit::TcpRoute(key), Ports)
    }

    /// Whether there is a UDPRoute of that name. Nothing is done with its ports: UDP is not proxied.
    pub fn is_udp_route(&mut self, key: Key) -> bool {
        self.ask(Unit::UdpRoute(key)).is_some()
    }

    /// The pod of that name, unless it has ended.
    pub fn pod(&mut self, key: &Key) -> Option<Arc<Instance>> {
        ask!(self, Unit::Pod(key.clone()), Instance)
    }

    /// The pods of a namespace by name.
    pub fn pods_of(&mut self, namespace: &str) -> Vec<Arc<Instance>> {
        let members = self.members(Unit::PodsOf(namespace.to_owned()));
        members.iter().filter_map(|unit| self.instance(unit)).collect()
    }

    /// The pods of a namespace that carry all these labels. None of them selects nothing.
    pub fn selected(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Arc<Instance>> {
        let set = |(name, value): (&String, &String)| {
            Unit::Labelled(namespace.to_owned(), name.clone(), value.clone())
        };
        // The rarest label: one that every pod has would make this quadratic.
        let rarest = labels.iter().map(set).min_by_key(|set| self.graph.count(set));
        let Some(rarest) = rarest else { return Vec::new() };
        let members = self.members(rarest);
        let carries =
            |pod: &Arc<Instance>| labels.iter().all(|(name, value)| pod.labels.get(name) == Some(value));
        members.iter().filter_map(|unit| self.instance(unit)).filter(carries).collect()
    }

    /// A member of a set of pods: the set makes its readers due when the pod changes.
    fn instance(&self, unit: &Unit) -> Option<Arc<Instance>> {
        variant!(self.graph.value(unit)?, Instance).map(Arc::clone)
    }

    /// The identities that an IdentityBinding stands for.
    pub fn binding(&mut self, key: Key) -> Option<Arc<BTreeSet<Arc<SpiffeId>>>> {
        ask!(self, Unit::Binding(key), Identities)
    }

    /// What a TrafficTarget allows.
    pub fn target(&mut self, key: &Key) -> Option<Arc<Allowed>> {
        ask!(self, Unit::Target(key.clone()), Allowed)
    }

    /// All that an identity allows.
    pub fn grants(&mut self, identity: &SpiffeId) -> Option<Arc<Vec<Arc<Grant>>>> {
        ask!(self, Unit::Grants(identity.clone()), Grants)
    }

    /// Whether a TrafficTarget is about an identity.
    pub fn is_granted(&mut self, identity: &SpiffeId) -> bool {
        self.ask(Unit::IsGranted(identity.clone())).is_some()
    }

    /// The slices of a Service by name.
    pub fn slices(&mut self, service: &ServiceId) -> Vec<Shared<EndpointSlice>> {
        let members = self.members(Unit::Slices(service.clone()));
        let slice = |unit: &Arc<Unit>| variant!(self.graph.value(unit)?, Slice).cloned();
        members.iter().filter_map(slice).collect()
    }

    /// The Service of that name.
    pub fn known(&mut self, id: &ServiceId) -> Option<Arc<Known>> {
        ask!(self, Unit::Known(id.clone()), Known)
    }

    /// Whether there is a Service of that name.
    pub fn is_service(&mut self, id: &ServiceId) -> bool {
        self.ask(Unit::IsService(id.clone())).is_some()
    }

    /// Whether a Service has pods in the mesh.
    pub fn has_members(&mut self, id: &ServiceId) -> bool {
        self.ask(Unit::HasMembers(id.clone())).is_some()
    }

    /// The endpoints of each port of a Service.
    pub fn endpoints(&mut self, id: &ServiceId) -> Arc<BTreeMap<u16, Vec<Endpoint>>> {
        ask!(self, Unit::Endpoints(id.clone()), Endpoints).unwrap_or_default()
    }

    /// A TrafficSplit as written.
    pub fn written(&mut self, key: &Key) -> Option<Arc<Written>> {
        ask!(self, Unit::Written(key.clone()), Written)
    }

    /// The splits of a namespace that do not fit into the budgets.
    pub fn over_budget(&mut self, namespace: &str) -> Arc<BTreeSet<Key>> {
        ask!(self, Unit::BudgetExceeded(namespace.to_owned()), BudgetExceeded).unwrap_or_default()
    }

    /// What a Service puts into the proxies of its callers.
    pub fn load(&mut self, id: &ServiceId) -> Load {
        ask!(self, Unit::Load(id.clone()), Load).unwrap_or_default()
    }

    /// What the Services of an identity put into the proxies of their callers.
    pub fn burden(&mut self, identity: &SpiffeId) -> Load {
        ask!(self, Unit::Burden(identity.clone()), Load).unwrap_or_default()
    }

    /// The targets of a namespace that do not fit into the budgets.
    pub fn losses(&mut self, namespace: &str) -> Arc<Losses> {
        ask!(self, Unit::Losses(namespace.to_owned()), Losses).unwrap_or_default()
    }

    /// Whether any split is of this root, in effect or not.
    pub fn is_root(&mut self, id: &ServiceId) -> bool {
        self.is_any(Unit::Splits(id.clone()))
    }

    /// The split that is in effect for a root.
    pub fn split(&mut self, root: &ServiceId) -> Option<Arc<Split>> {
        ask!(self, Unit::Split(root.clone()), Split)
    }

    /// Whether there is one.
    pub fn has_split(&mut self, root: &ServiceId) -> bool {
        self.ask(Unit::HasSplit(root.clone())).is_some()
    }

    /// Whether a split in effect sends to a Service.
    pub fn is_sent_to(&mut self, id: &ServiceId) -> bool {
        self.is_any(Unit::Senders(id.clone()))
    }

    /// The addresses and ports that a Service would be called by; `None` if it is not in the mesh.
    pub fn claims(&mut self, id: &ServiceId) -> Option<Arc<BTreeSet<(IpAddr, u16)>>> {
        ask!(self, Unit::Claims(id.clone()), Claims)
    }

    /// The Service that has an address and port.
    pub fn owner(&mut self, address: IpAddr, port: u16) -> Option<ServiceId> {
        ask!(self, Unit::Address(address, port), Owner)
    }

    /// The ports of a pod that Services send to.
    pub fn served(&mut self, pod: &Key) -> Arc<BTreeMap<u16, Protocol>> {
        ask!(self, Unit::Served(pod.clone()), Served).unwrap_or_default()
    }

    /// The class of a workload instance, where one of those who give is one.
    pub fn class(&self, giver: &Unit) -> Option<Arc<smidge_xds::mesh::workload::Class>> {
        variant!(self.graph.value(giver)?, Workload).map(|(_, class)| Arc::clone(class))
    }
}
