//! What a unit may see while it is made: its own objects, and other units, of which each one that it asks for is noted.
//!
//! Handed by `graph` to whoever makes a unit. What is asked for here, and only that, makes the unit due again when it
//! changes; so `inputs` is for the unit's own objects alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use smidge_xds::mesh::{
    access::{AccessMode, Grant, MtlsMode, Ports},
    id::{ClusterId, ServiceId, SpiffeId},
    service::{Endpoint, Protocol},
};

use super::{
    access::Allowed,
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
    inputs::{Inputs, Key, Shared},
};

/// The view of a unit that is being made.
pub(super) struct Look<'a> {
    graph: &'a mut Graph,
    unit: &'a Arc<Unit>,
    pub cluster: &'a ClusterId,
    /// The objects. Only those of the unit's own name may be read.
    pub inputs: &'a Inputs,
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
    pub fn binding(&mut self, key: Key) -> Option<Arc<BTreeSet<SpiffeId>>> {
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
