//! Nodes of lowering: what is computed, in the order in which it is computed.
//!
//! `engine` keeps a value (`value`) for each node, `compute` computes it, and a node reads another through `context`. A
//! node reads nodes above it in this picture, and contributes to nodes below it:
//!
//! ```text
//! settings      TrustDomain ClusterDomain SystemNamespace → MeshWide, InjectsNamespace → Modes
//! objects       Object → GroupsWithMatch    Slice → SlicesOfService
//! pods          Pod → PodsAtAddress    ExternalClaims → AddressHolder    PodsAtAddress, AddressHolder → ExternalInstance
//!               Pod, ExternalInstance → PodsWithLabel, PodsInNamespace, PodsOfAccount → NamespaceHasPods, AccountHasPods
//! SMI targets   Binding → Target → RuledPorts
//! Services      KubeService, ExternalName, ReportedReady → ServiceExists, HasMembers, Endpoints
//! SMI splits    SplitSpec → SplitsOfRoot → SplitsOverBudget → Splits → HasSplit, SplitsToService, Protocols
//! budgets       InboundPort, ServiceLoad → IdentityLoad → TargetsOverBudget
//! grants        TargetsOverBudget → Grants → IsGranted
//! the mesh      ClaimedAddresses → AddressOwner → Service        ServedPorts → Workload → Class
//! metrics       Workload, PodsOfWorkload, Grants → MetricsPolicy → PoliciesOfNamespace, Class
//! effects       Class → IdentityPorts → TargetEffect
//! ```

use std::net::IpAddr;

use smidge_mesh::id::{ClassId, ServiceId, SpiffeId};

use super::engine::Role;
use crate::inputs::Key;

/// A node. Each is computed from the object of its own name and from nodes before it in this list, so that computing in
/// this order computes each once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Node {
    /// The mesh's trust domain.
    TrustDomain,
    /// The domain under which the cluster's DNS serves Services.
    ClusterDomain,
    /// The namespace that Smidge itself runs in.
    SystemNamespace,
    /// The settings of the mesh as a whole.
    MeshWide,
    /// Fact that the pods of a namespace are in the mesh.
    InjectsNamespace(String),
    /// The access and mTLS modes of a namespace.
    Modes(String),
    /// A kind whose definition is absent: yields a finding only.
    Absent(String),
    /// An object that cannot be read: yields a finding only.
    Unreadable(String, Key),
    /// An object of a kind that is read without other objects: an HTTPRouteGroup, a TCPRoute, a UDPRoute.
    Object(&'static str, Key),
    /// *Set*: the HTTPRouteGroups of a namespace that have a match of a name.
    GroupsWithMatch(String, String),
    /// A pod, in the mesh or not.
    Pod(Key),
    /// Fact that a pod is ready by what its node reported last.
    ReportedReady(Key),
    /// *Set*: the pods that have an address.
    PodsAtAddress(IpAddr),
    /// The addresses that an ExternalWorkload claims.
    ExternalClaims(Key),
    /// The ExternalWorkload that holds an address.
    AddressHolder(IpAddr),
    /// An ExternalWorkload: a pod as far as all nodes below are concerned, and a member of their sets of pods.
    ExternalInstance(Key),
    /// *Set*: the pods of a namespace that carry a label with a value.
    PodsWithLabel(String, String, String),
    /// *Set*: the pods of a namespace.
    PodsInNamespace(String),
    /// *Set*: the pods of a namespace that run under a ServiceAccount.
    PodsOfAccount(String, String),
    /// Fact that a namespace has pods, in the mesh or not.
    NamespaceHasPods(String),
    /// Fact that pods of a namespace run under a ServiceAccount, in the mesh or not.
    AccountHasPods(String, String),
    /// *Set*: the pods of the workload with a namespace, kind and name.
    PodsOfWorkload(String, String, String),
    /// The identities that an IdentityBinding resolves to.
    Binding(Key),
    /// The grant of a TrafficTarget, and its destinations.
    Target(Key),
    /// The ports of a destination identity for which TrafficTargets have rules.
    RuledPorts(SpiffeId),
    /// An EndpointSlice.
    Slice(Key),
    /// *Set*: the slices of a Service.
    SlicesOfService(ServiceId),
    /// A Service as the cluster has it.
    KubeService(ServiceId),
    /// Fact that a Service of that name exists.
    ServiceExists(ServiceId),
    /// Fact that a Service is only an alias of a name elsewhere.
    ExternalName(ServiceId),
    /// Fact that a Service has pods in the mesh.
    HasMembers(ServiceId),
    /// The endpoints of each port of a Service.
    Endpoints(ServiceId),
    /// A TrafficSplit as written.
    SplitSpec(Key),
    /// *Set*: the splits of a root.
    SplitsOfRoot(ServiceId),
    /// The splits of a namespace that do not fit into the budgets.
    SplitsOverBudget(String),
    /// The splits that are in effect for a root.
    Splits(ServiceId),
    /// Fact that a split is in effect for a root.
    HasSplit(ServiceId),
    /// *Set*: the roots whose split sends to a Service.
    SplitsToService(ServiceId),
    /// The protocols of the ports on which a Service is called.
    Protocols(ServiceId),
    /// Fact that pods of an identity have a port, by a Service or by their own declaration.
    InboundPort(SpiffeId, u16),
    /// The load that a Service adds to the proxies of its callers.
    ServiceLoad(ServiceId),
    /// The load that the Services of an identity add to the proxies of their callers, and the number of ports of its
    /// own pods.
    IdentityLoad(SpiffeId),
    /// The targets of a namespace that do not fit into the budgets, as a whole or for some of their sources.
    TargetsOverBudget(String),
    /// All grants of a destination identity.
    Grants(SpiffeId),
    /// Fact that a destination identity has grants.
    IsGranted(SpiffeId),
    /// The addresses and ports on which a Service in the mesh would be called.
    ClaimedAddresses(ServiceId),
    /// The Service that owns an address and port.
    AddressOwner(IpAddr, u16),
    /// A Service of the mesh.
    Service(ServiceId),
    /// The ports of a pod that Services send to.
    ServedPorts(Key),
    /// A workload instance of the mesh.
    Workload(Key),
    /// The routes that a MetricsPolicy has measured.
    MetricsPolicy(Key),
    /// *Set*: the MetricsPolicies about a namespace as a whole.
    PoliciesOfNamespace(String),
    /// A class of the mesh.
    Class(ClassId),
    /// The ports of an identity's workloads.
    IdentityPorts(SpiffeId),
    /// The rules of a TrafficTarget that no port can meet: yields findings only.
    TargetEffect(Key),
}

impl Node {
    /// Role of the node in the graph.
    pub(super) fn role(&self) -> Role {
        match self {
            Self::GroupsWithMatch(..)
            | Self::PodsAtAddress(_)
            | Self::PodsWithLabel(..)
            | Self::PodsInNamespace(_)
            | Self::PodsOfAccount(..)
            | Self::PodsOfWorkload(..)
            | Self::SlicesOfService(_)
            | Self::SplitsOfRoot(_)
            | Self::SplitsToService(_)
            | Self::PoliciesOfNamespace(_) => Role::Set,
            Self::AddressHolder(_)
            | Self::RuledPorts(_)
            | Self::Endpoints(_)
            | Self::SplitsOverBudget(_)
            | Self::Splits(_)
            | Self::InboundPort(..)
            | Self::ServiceLoad(_)
            | Self::IdentityLoad(_)
            | Self::TargetsOverBudget(_)
            | Self::Grants(_)
            | Self::ClaimedAddresses(_)
            | Self::AddressOwner(..)
            | Self::Service(_)
            | Self::ServedPorts(_)
            | Self::Workload(_)
            | Self::Class(_)
            | Self::IdentityPorts(_)
            | Self::TargetEffect(_) => Role::Contributed,
            Self::TrustDomain
            | Self::ClusterDomain
            | Self::SystemNamespace
            | Self::InjectsNamespace(_)
            | Self::ReportedReady(_)
            | Self::NamespaceHasPods(_)
            | Self::AccountHasPods(..)
            | Self::IsGranted(_)
            | Self::ServiceExists(_)
            | Self::ExternalName(_)
            | Self::HasMembers(_)
            | Self::HasSplit(_)
            | Self::Protocols(_) => Role::OnDemand,
            Self::MeshWide
            | Self::Modes(_)
            | Self::Absent(_)
            | Self::Unreadable(..)
            | Self::Object(..)
            | Self::Pod(_)
            | Self::ExternalClaims(_)
            | Self::ExternalInstance(_)
            | Self::Binding(_)
            | Self::Target(_)
            | Self::Slice(_)
            | Self::KubeService(_)
            | Self::SplitSpec(_)
            | Self::MetricsPolicy(_) => Role::Source,
        }
    }

    /// Namespace and name of its object, if it has one.
    pub fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Modes(namespace) | Self::InjectsNamespace(namespace) => (String::new(), namespace.clone()),
            Self::KubeService(id) | Self::ExternalName(id) => (id.namespace.clone(), id.name.clone()),
            Self::Object(_, key)
            | Self::Pod(key)
            | Self::ReportedReady(key)
            | Self::ExternalClaims(key)
            | Self::ExternalInstance(key)
            | Self::Binding(key)
            | Self::Target(key)
            | Self::Slice(key)
            | Self::SplitSpec(key)
            | Self::MetricsPolicy(key) => key.clone(),
            _ => return None,
        })
    }
}
