//! Values of nodes: what is known of an object after it was read, and the parts from which the mesh is built.
//!
//! Computed by `kubernetes`, `smi` and `budget`; kept by `engine`; read through `context`. Plain data: nothing here
//! reads an object or reports a finding.

mod kube_service;
mod mesh_pods;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::{api::discovery::v1::EndpointSlice, apimachinery::pkg::apis::meta::v1::Time};
use smidge_crds::{config::HeaderRegexMatch, redirected::RedirectedPorts};
use smidge_mesh::{
    access::{AccessMode, Grant, MtlsMode, Ports},
    id::{ProxyId, ServiceId, SpiffeId, TrustDomain},
    matches::Matches,
    matches::PathEnd,
    proxy::TrafficStats,
    service::{self, Endpoint, Protocol},
    settings::Settings,
    source::SourceRef,
    workload::{self, Class},
};

pub(super) use self::{
    kube_service::{Age, KubeService, OutsidePod, PodPort, PodPorts, Port},
    mesh_pods::{MeshPods, Targets},
};
use super::cost::Budgets;
use crate::{
    external_workload,
    finding::ObjectRef,
    inputs::{Key, Shared},
};

/// Value of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// The fact that the node names is true.
    Yes,
    TrustDomain(TrustDomain),
    Text(Arc<str>),
    MeshWide(MeshWide),
    Modes((AccessMode, MtlsMode)),
    Group(Arc<Group>),
    Ports(Ports),
    Pod(Arc<KubePod>),
    Claims(Arc<ExternalClaims>),
    Holder(Key),
    Identities(Arc<BTreeSet<Arc<SpiffeId>>>),
    TargetGrant(Arc<TargetGrant>),
    Grants(Arc<Vec<Arc<Grant>>>),
    Slice(Shared<EndpointSlice>),
    KubeService(Arc<KubeService>),
    Endpoints(Arc<BTreeMap<u16, Vec<Endpoint>>>),
    SplitSpec(Arc<SplitSpec>),
    SplitsOverBudget(Arc<BTreeSet<Key>>),
    Splits(Arc<Splits>),
    Load(Load),
    TargetsOverBudget(Arc<TargetsOverBudget>),
    ClaimedAddresses(Arc<BTreeSet<(IpAddr, u16)>>),
    Owner(ServiceId),
    Service(Arc<service::Service>),
    RuledPorts(Arc<RuledPorts>),
    Protocols(Arc<Protocols>),
    /// Part of a Service: its ports that lead to one pod.
    PodPorts(Arc<PodPorts>),
    /// Part of a Service that claims an address: what decides whether it owns it.
    Age(Arc<Age>),
    ServedPorts(Arc<BTreeMap<u16, Option<Protocol>>>),
    IdentityPorts(Arc<IdentityPorts>),
    Workload((Arc<workload::Workload>, Arc<Class>)),
    Measured(Arc<Measured>),
    Class(Arc<Class>),
}

impl From<Group> for Value {
    fn from(group: Group) -> Self {
        Self::Group(group.into())
    }
}

impl From<Ports> for Value {
    fn from(ports: Ports) -> Self {
        Self::Ports(ports)
    }
}

/// Returns the content of a value, if it is of that variant.
macro_rules! variant {
    ($value:expr, $variant:ident) => {
        match $value {
            crate::value::Value::$variant(value) => Some(value),
            _ => None,
        }
    };
}
pub(super) use variant;

/// Settings that apply where a namespace sets nothing else.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MeshWide {
    pub access: AccessMode,
    pub mtls: MtlsMode,
    /// End of path expressions; `None` if it is not set.
    pub path_end: Option<PathEnd>,
    /// Part of a header's value that an expression matches; `None` if it is not set.
    pub header_match: Option<HeaderRegexMatch>,
    /// Protocol of ports that neither declare one nor have rules that agree on one.
    pub undeclared_ports: Protocol,
    pub budgets: Budgets,
    /// The settings of every proxy.
    pub proxies: Settings,
}

impl Default for MeshWide {
    fn default() -> Self {
        Self {
            access: AccessMode::Enforce,
            mtls: MtlsMode::Strict,
            path_end: None,
            header_match: None,
            undeclared_ports: Protocol::Detect,
            budgets: Budgets::default(),
            proxies: Settings::default(),
        }
    }
}

/// Addresses that an ExternalWorkload claims.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExternalClaims {
    pub created: Option<Time>,
    pub addresses: Vec<IpAddr>,
}

/// A pod that has not ended, or an ExternalWorkload, reduced to what lowering reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KubePod {
    pub key: Key,
    pub labels: BTreeMap<String, String>,
    /// The ServiceAccount that it runs under.
    pub account: String,
    /// The pod as a member of the mesh, if it is one.
    pub member: Option<Arc<MeshPod>>,
    /// The addresses at which it is reached, if it is not a member.
    pub outside: Vec<IpAddr>,
    /// True if it is in the network of its node, whose addresses are not its own.
    pub is_in_node_network: bool,
}

/// A pod that is in the mesh.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MeshPod {
    pub id: ProxyId,
    pub key: Key,
    pub identity: SpiffeId,
    /// Addresses as the cluster reports them, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Kind and name of the object that it is an instance of.
    pub owner: (String, String),
    /// Statistics of traffic that its proxy can count.
    pub traffic: TrafficStats,
    /// True if it is a pod of a manifest, whose proxy gets its version when it is injected.
    pub is_planned: bool,
    /// True if it is being deleted.
    pub is_ending: bool,
    /// TCP ports that the application declares.
    pub ports: Vec<DeclaredPort>,
    /// Ports on which callers reach its proxy.
    pub inbound: RedirectedPorts,
}

/// TCP port that an application declares.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DeclaredPort {
    pub name: Option<String>,
    /// Number as written.
    pub number: i32,
    /// The protocol that it declares, if it does.
    pub protocol: Option<Protocol>,
}

impl KubePod {
    /// Returns its name with its kind, for messages.
    pub fn name(&self) -> String {
        match external_workload::name(&self.key.1) {
            Some(name) => format!("ExternalWorkload {name}"),
            None => format!("pod {}", self.key.1),
        }
    }
}

impl MeshPod {
    /// Returns the reference to the workload for findings: the name of a pod changes with every rollout.
    pub fn object(&self) -> ObjectRef {
        let (kind, name) = &self.owner;
        ObjectRef::new(kind, &self.id.namespace, name)
    }

    /// Returns true if it is an ExternalWorkload: no EndpointSlice lists it.
    pub fn is_external(&self) -> bool {
        external_workload::name(&self.key.1).is_some()
    }

    /// Returns the number of the TCP port called `name`.
    pub fn named_port(&self, name: &str) -> Option<u16> {
        let port = self.ports.iter().find(|port| port.name.as_deref() == Some(name));
        port.and_then(|port| u16::try_from(port.number).ok())
    }
}

/// An HTTPRouteGroup: all its matches, and its matches by name, as other objects refer to them.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    pub all: Part,
    pub by_name: BTreeMap<String, Part>,
    /// The names in order, limited to a length that fits into a message; empty if there is none.
    pub names: String,
}

/// Matches and their cost.
pub(super) type Part = (Matches, u64);

impl Group {
    /// Returns all matches.
    pub fn all(&self) -> &Part {
        &self.all
    }

    /// Returns the matches of that name, if the group has any.
    pub fn named(&self, name: &str) -> Option<&Part> {
        self.by_name.get(name)
    }
}

/// Routes that a MetricsPolicy has measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    pub origin: SourceRef,
    /// The matches in order; `None`: those that the TrafficTargets of each identity name.
    pub matches: Option<Vec<Matches>>,
}

/// Grant of a TrafficTarget, and the destinations that it applies to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TargetGrant {
    pub created: Option<Time>,
    pub destinations: BTreeSet<Arc<SpiffeId>>,
    pub grant: Arc<Grant>,
    /// Matches of the grant, each with its cost, which targets of one destination share.
    pub parts: BTreeMap<Matches, u64>,
    /// Cost beside the matches.
    pub cost: u64,
}

/// Ports of an identity for which TrafficTargets have rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuledPorts {
    /// Ports of targets that allow HTTP by matches.
    pub http: Ports,
    /// Ports of targets that allow any bytes.
    pub tcp: Ports,
}

/// Number of a port and the name of its protocol.
pub(super) type KnownPort = (u16, &'static str);

/// Protocols of a Service's ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Protocols {
    /// The protocol of each port on which the Service is called.
    pub ports: BTreeMap<u16, Protocol>,
    /// Ports that declare no protocol and are TCP because of a number, that of the port or of a pod's.
    pub server_first: BTreeMap<u16, KnownPort>,
}

/// Ports of an identity's workloads, with the protocols that they have there.
pub(super) type IdentityPorts = BTreeMap<u16, BTreeSet<Protocol>>;

/// A TrafficSplit as written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SplitSpec {
    pub created: Option<Time>,
    pub split: Split,
}

impl SplitSpec {
    /// Returns the Service that the split is about.
    pub fn root(&self) -> &ServiceId {
        &self.split.root
    }

    /// Returns the cost of its matches for one port.
    pub fn cost(&self) -> u64 {
        self.split.cost()
    }
}

/// A split with its root. In a split that is in effect, the shares are only those of backends that exist.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Split {
    pub object: ObjectRef,
    pub root: ServiceId,
    /// The backends, each once.
    pub shares: Vec<Share>,
    /// True if any backend was written with a weight above 0, even one that does not exist.
    pub is_weighted: bool,
    /// Matches of the requests that are split, any of them; `None` means all traffic, and an empty list no request.
    pub matches: Option<BTreeMap<Matches, u64>>,
}

/// The splits that are in effect for a root, in the order in which they take requests: those with matches, of which each
/// has some that no earlier one has, and then at most one without, which takes the rest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Splits(pub Vec<Split>);

impl Splits {
    /// Returns true if any of them needs requests to match.
    pub fn have_matches(&self) -> bool {
        self.0.iter().any(|split| split.matches.is_some())
    }

    /// Returns the cost of their matches for one port.
    pub fn cost(&self) -> u64 {
        self.0.iter().map(Split::cost).fold(0, u64::saturating_add)
    }

    /// Returns the Services that they send to; one may be named by several.
    pub fn backends(&self) -> impl Iterator<Item = &ServiceId> {
        self.0.iter().flat_map(Split::backends)
    }
}

/// A backend and its weight.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Share {
    /// Field in which it is named first.
    pub field: String,
    pub service: ServiceId,
    pub weight: u64,
}

impl Split {
    /// Returns the cost of its matches for one port.
    pub fn cost(&self) -> u64 {
        self.matches.iter().flat_map(BTreeMap::values).fold(0, |sum, cost| sum.saturating_add(*cost))
    }

    /// Returns the Services that it sends to.
    pub fn backends(&self) -> impl Iterator<Item = &ServiceId> {
        self.shares.iter().map(|share| &share.service)
    }
}

/// Load of a Service, or of all Services of an identity: what it adds to the proxies of each caller, and to its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub ports: u64,
    pub matches: u64,
    /// Number of ports of the identity's own pods, each with a copy of the rules; 0 for a Service.
    pub inbound: u64,
}

impl Load {
    pub fn add(&mut self, more: Self) {
        self.ports = self.ports.saturating_add(more.ports);
        self.matches = self.matches.saturating_add(more.matches);
        self.inbound = self.inbound.saturating_add(more.inbound);
    }
}

/// Effect that a TrafficTarget loses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LostEffect {
    /// All of its effect.
    Everything,
    /// These sources.
    Sources(BTreeSet<Arc<SpiffeId>>),
}

/// TrafficTargets of a namespace that lose all or some of their effect.
pub(super) type TargetsOverBudget = BTreeMap<Key, LostEffect>;
