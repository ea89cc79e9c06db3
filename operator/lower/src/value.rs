//! Values of nodes: what is known of an object once it was read, and what the mesh is put together from.
//!
//! Computed by `kubernetes`, `smi` and `budget`; kept by `engine`; read by way of `context`. Plain data: nothing here reads
//! an object or reports a finding.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::{
    api::discovery::v1::EndpointSlice,
    apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
};
use smidge_mesh::{
    access::{AccessMode, Grant, MtlsMode, Ports},
    id::{ProxyId, ServiceId, SpiffeId, TrustDomain},
    matches::Matches,
    matches::PathEnd,
    proxy,
    service::{self, Endpoint, Protocol},
    workload::{self, Class},
};

use super::cost::Budgets;
use crate::{
    finding::ObjectRef,
    inputs::{Key, Shared},
};

/// Value of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// It is so.
    Yes,
    TrustDomain(TrustDomain),
    Text(Arc<str>),
    MeshWide(MeshWide),
    Modes((AccessMode, MtlsMode)),
    Group(Arc<Group>),
    Ports(Ports),
    Pod(Arc<KubePod>),
    Identities(Arc<BTreeSet<Arc<SpiffeId>>>),
    TargetGrant(Arc<TargetGrant>),
    Grants(Arc<Vec<Arc<Grant>>>),
    Slice(Shared<EndpointSlice>),
    KubeService(Arc<KubeService>),
    Endpoints(Arc<BTreeMap<u16, Vec<Endpoint>>>),
    SplitSpec(Arc<SplitSpec>),
    SplitsOverBudget(Arc<BTreeSet<Key>>),
    Split(Arc<Split>),
    Load(Load),
    TargetsOverBudget(Arc<Losses>),
    ClaimedAddresses(Arc<BTreeSet<(IpAddr, u16)>>),
    Owner(ServiceId),
    Service(Arc<service::Service>),
    ServedPorts(Arc<BTreeMap<u16, Protocol>>),
    Workload((Arc<workload::Workload>, Arc<Class>)),
    Class(Arc<Class>),
}

/// What a value holds, if it is of that variant.
macro_rules! variant {
    ($value:expr, $variant:ident) => {
        match $value {
            crate::value::Value::$variant(value) => Some(value),
            _ => None,
        }
    };
}
pub(super) use variant;

/// What holds where no namespace says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MeshWide {
    pub access: AccessMode,
    pub mtls: MtlsMode,
    /// How path expressions end; `None` when nobody said.
    pub path_end: Option<PathEnd>,
    pub budgets: Budgets,
}

impl Default for MeshWide {
    fn default() -> Self {
        Self {
            access: AccessMode::Enforce,
            mtls: MtlsMode::Strict,
            path_end: None,
            budgets: Budgets::default(),
        }
    }
}

/// A pod that has not ended, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KubePod {
    pub key: Key,
    pub labels: BTreeMap<String, String>,
    /// The ServiceAccount that it runs under.
    pub account: String,
    /// What it is in the mesh, if it is.
    pub member: Option<Arc<MeshPod>>,
    /// Its own addresses, if it is not.
    pub outside: Vec<IpAddr>,
}

/// A pod that is in the mesh.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MeshPod {
    pub id: ProxyId,
    pub key: Key,
    pub identity: SpiffeId,
    /// As the cluster reports them, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// The kind and name of the thing that it is an instance of.
    pub owner: (String, String),
    /// The TCP ports that the application declares: name and number, as written.
    pub ports: Vec<(Option<String>, i32)>,
}

impl MeshPod {
    /// The workload as an object, for findings: a pod's own name changes with every rollout.
    pub fn object(&self) -> ObjectRef {
        let (kind, name) = &self.owner;
        ObjectRef::new(kind, &self.id.namespace, name)
    }

    /// Where `address` stands among the pod's own.
    pub fn position(&self, address: IpAddr) -> Option<usize> {
        self.addresses.iter().position(|own| *own == address)
    }

    /// The number of the TCP port called `name`.
    pub fn named_port(&self, name: &str) -> Option<u16> {
        let port = self.ports.iter().find(|(own, _)| own.as_deref() == Some(name));
        port.and_then(|(_, number)| u16::try_from(*number).ok())
    }
}

/// The members of a Service by name.
pub(super) type MeshPods = BTreeMap<Key, Arc<MeshPod>>;

/// A Service as the cluster has it.
#[derive(Debug, PartialEq)]
pub(super) struct KubeService {
    pub id: ServiceId,
    pub object: ObjectRef,
    pub created: Option<Time>,
    /// Its TCP ports by number.
    pub ports: BTreeMap<u16, Port>,
    /// Its own pods that are in the mesh, ready or not.
    pub members: MeshPods,
    /// Its own pods that are not.
    pub outside: Vec<String>,
    /// The addresses of those of them that it selects, but for pods in the node's network.
    pub outside_addresses: BTreeSet<IpAddr>,
    /// Whether it selects its pods, rather than that somebody lists its endpoints.
    pub has_selector: bool,
    /// The addresses that the API server allocated; empty for a headless one.
    pub cluster_addresses: BTreeSet<IpAddr>,
    pub is_headless: bool,
}

/// A TCP port of a Service.
#[derive(Debug, PartialEq)]
pub(super) struct Port {
    pub field: String,
    pub number: u16,
    /// Empty for the only port without a name.
    pub name: String,
    pub protocol: Protocol,
    pub target: Option<IntOrString>,
    /// The members behind it, each with its own port.
    pub targets: BTreeMap<(Key, u16), Arc<MeshPod>>,
}

impl Port {
    /// The pod's port behind this one.
    pub fn target(&self, member: &MeshPod) -> Option<u16> {
        match &self.target {
            // 0 is what an unset number looks like on the wire.
            None | Some(IntOrString::Int(0)) => Some(self.number),
            Some(IntOrString::Int(target)) => u16::try_from(*target).ok(),
            Some(IntOrString::String(name)) if name.is_empty() => Some(self.number),
            Some(IntOrString::String(name)) => member.named_port(name),
        }
    }

    /// The ports of one pod behind it.
    pub fn targets_at(&self, pod: &Key) -> impl Iterator<Item = u16> {
        let all = (pod.clone(), u16::MIN)..=(pod.clone(), u16::MAX);
        self.targets.range(all).map(|((_, target), _)| *target)
    }
}

impl KubeService {
    /// The addresses that callers dial.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        if self.is_headless {
            let inside = self.members.values().flat_map(|member| member.addresses.iter().copied());
            // One with nobody inside is called nowhere else; next to members, others are left alone.
            let outside = self.outside_addresses.iter().filter(|_| self.members.is_empty()).copied();
            inside.chain(outside).collect()
        } else {
            self.cluster_addresses.clone()
        }
    }

    /// The ports by which it is called, and what is spoken there. Nothing translates those of a headless one, so its pods'
    /// own ports are among them.
    pub fn called_ports(&self) -> BTreeMap<u16, Protocol> {
        let mut called: BTreeMap<u16, Protocol> =
            self.ports.iter().map(|(number, port)| (*number, port.protocol)).collect();
        if self.is_headless {
            for port in self.ports.values() {
                for (_, target) in port.targets.keys().filter(|(_, target)| !proxy::PORTS.contains(target)) {
                    called.entry(*target).or_insert(port.protocol);
                }
            }
        }
        called
    }

    /// Older objects win, as a newcomer must not take anything over.
    pub fn age(&self) -> (Option<&Time>, &ServiceId) {
        (self.created.as_ref(), &self.id)
    }
}

/// An HTTPRouteGroup: its matches, all and by name, as others refer to them.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    pub all: Part,
    pub by_name: BTreeMap<String, Part>,
    /// The names in order, as far as anybody would read; empty if there is none.
    pub names: String,
}

/// Matches and what they cost.
pub(super) type Part = (Matches, u64);

impl Group {
    /// All matches.
    pub fn all(&self) -> &Part {
        &self.all
    }

    /// The matches of that name; none if it has none of that name.
    pub fn named(&self, name: &str) -> Option<&Part> {
        self.by_name.get(name)
    }
}

/// What a TrafficTarget allows, and at whom.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TargetGrant {
    pub created: Option<Time>,
    pub destinations: BTreeSet<Arc<SpiffeId>>,
    pub grant: Arc<Grant>,
    /// The matches of the grant, each with its cost, which targets of one destination share.
    pub parts: BTreeMap<Matches, u64>,
    /// What it costs beside its matches.
    pub cost: u64,
}

/// A TrafficSplit as written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SplitSpec {
    pub created: Option<Time>,
    pub split: Split,
}

impl SplitSpec {
    /// The Service that it is about.
    pub fn root(&self) -> &ServiceId {
        &self.split.root
    }

    /// What its matches cost for one port.
    pub fn cost(&self) -> u64 {
        self.split.cost()
    }
}

/// A split with its root. In effect, its shares are those of backends that exist.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Split {
    pub object: ObjectRef,
    pub root: ServiceId,
    /// The backends, each once.
    pub shares: Vec<Share>,
    /// Whether any backend was written with a weight, be it one that does not exist.
    pub is_weighted: bool,
    /// The requests that are split, any of these; `None` is all traffic, and an empty list none.
    pub matches: Option<BTreeMap<Matches, u64>>,
}

/// A backend and its weight.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Share {
    /// Where it was named first.
    pub field: String,
    pub service: ServiceId,
    pub weight: u64,
}

impl Split {
    /// What its matches cost for one port.
    pub fn cost(&self) -> u64 {
        self.matches.iter().flat_map(BTreeMap::values).fold(0, |sum, cost| sum.saturating_add(*cost))
    }

    /// The Services that it sends to.
    pub fn backends(&self) -> impl Iterator<Item = &ServiceId> {
        self.shares.iter().map(|share| &share.service)
    }
}

/// What a Service, or all Services of an identity, puts into the proxies of each caller, and what its own proxies hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub ports: u64,
    pub matches: u64,
    /// The ports of the identity's own pods, each with a copy of the rules; of a Service none.
    pub inbound: u64,
}

impl Load {
    pub fn add(&mut self, more: Self) {
        self.ports = self.ports.saturating_add(more.ports);
        self.matches = self.matches.saturating_add(more.matches);
        self.inbound = self.inbound.saturating_add(more.inbound);
    }
}

/// What a TrafficTarget loses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// All of its effect.
    Everything,
    /// These sources.
    Sources(BTreeSet<Arc<SpiffeId>>),
}

/// The TrafficTargets of a namespace that lose something.
pub(super) type Losses = BTreeMap<Key, Lost>;
