//! The names of what lowering makes, one by one, and what it may come to.
//!
//! `graph` keeps a value for each unit, `lower` says how each is made, `look` how one asks for another. Says nothing about
//! either.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use smidge_xds::mesh::{
    access::{AccessMode, Grant, MtlsMode, Ports},
    id::{ClassId, ServiceId, SpiffeId, TrustDomain},
    service::{self, Endpoint, Protocol},
    workload::{self, Class},
};

use super::{
    access::Allowed,
    budget::{Load, Losses},
    route::Group,
    service::Known,
    settings::MeshWide,
    split::{Split, Written},
    workload::Instance,
};
use crate::inputs::{Key, Shared};

/// One thing that is made by itself. Each is made of objects of its own name, and of units that stand before it in this
/// list; so making in this order makes each once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Unit {
    /// The mesh's trust domain.
    TrustDomain,
    /// The domain under which the cluster's DNS serves Services.
    ClusterDomain,
    /// The namespace that Smidge itself runs in.
    SystemNamespace,
    /// The settings of the mesh as a whole.
    MeshWide,
    /// The access and mTLS modes of a namespace.
    Modes(String),
    /// Whether the pods of a namespace are taken into the mesh.
    Injects(String),
    /// A kind whose definition is absent: only said.
    Absent(String),
    /// An object that cannot be read: only said.
    Unreadable(String, Key),
    /// An HTTPRouteGroup.
    Group(Key),
    /// A TCPRoute.
    TcpRoute(Key),
    /// A UDPRoute.
    UdpRoute(Key),
    /// A pod, in the mesh or not.
    Pod(Key),
    /// *Set*: the pods of a namespace that carry a label with a value.
    Labelled(String, String, String),
    /// *Set*: the pods of a namespace.
    PodsOf(String),
    /// The identities that an IdentityBinding stands for.
    Binding(Key),
    /// What a TrafficTarget allows, and at whom.
    Target(Key),
    /// An EndpointSlice.
    Slice(Key),
    /// *Set*: the slices of a Service.
    Slices(ServiceId),
    /// A Service as the cluster has it.
    Known(ServiceId),
    /// Whether there is a Service of that name.
    IsService(ServiceId),
    /// Whether a Service has pods in the mesh.
    HasMembers(ServiceId),
    /// The endpoints of each port of a Service.
    Endpoints(ServiceId),
    /// A TrafficSplit as written.
    Written(Key),
    /// *Set*: the splits of a root.
    Splits(ServiceId),
    /// The splits of a namespace that do not fit into the budgets.
    BudgetExceeded(String),
    /// The split that is in effect for a root.
    Split(ServiceId),
    /// Whether there is one.
    HasSplit(ServiceId),
    /// *Set*: the roots whose split sends to a Service.
    Senders(ServiceId),
    /// Whether pods of an identity have a port, by a Service or by their own word.
    Inbound(SpiffeId, u16),
    /// What a Service puts into the proxies of its callers.
    Load(ServiceId),
    /// What the Services of an identity put into the proxies of their callers, and how many ports its own pods have.
    Burden(SpiffeId),
    /// The targets of a namespace that do not fit into the budgets, as a whole or for some of their sources.
    Losses(String),
    /// All that an identity allows.
    Grants(SpiffeId),
    /// Whether that is anything.
    IsGranted(SpiffeId),
    /// The addresses and ports that a Service in the mesh would be called by.
    Claims(ServiceId),
    /// The Service that has an address and port.
    Address(IpAddr, u16),
    /// A Service of the mesh.
    Service(ServiceId),
    /// The ports of a pod that Services send to.
    Served(Key),
    /// A workload instance of the mesh.
    Workload(Key),
    /// A class of the mesh.
    Class(ClassId),
}

impl Unit {
    /// Whether it stands for those who give to it, and has no value of its own.
    pub fn is_set(&self) -> bool {
        matches!(
            self,
            Self::Labelled(..) | Self::PodsOf(_) | Self::Slices(_) | Self::Splits(_) | Self::Senders(_)
        )
    }

    /// Whether it is made of those who give to it, and so is nothing without them.
    pub fn is_given(&self) -> bool {
        matches!(
            self,
            Self::Endpoints(_)
                | Self::BudgetExceeded(_)
                | Self::Split(_)
                | Self::Inbound(..)
                | Self::Load(_)
                | Self::Burden(_)
                | Self::Losses(_)
                | Self::Grants(_)
                | Self::Claims(_)
                | Self::Address(..)
                | Self::Service(_)
                | Self::Served(_)
                | Self::Workload(_)
                | Self::Class(_)
        )
    }

    /// Whether it is there only for those who ask for it.
    pub fn is_asked(&self) -> bool {
        matches!(
            self,
            Self::TrustDomain
                | Self::ClusterDomain
                | Self::SystemNamespace
                | Self::Injects(_)
                | Self::IsGranted(_)
                | Self::IsService(_)
                | Self::HasMembers(_)
                | Self::HasSplit(_)
        )
    }

    /// The namespace and name of the object that it is made of, if it is made of one.
    pub fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Modes(namespace) | Self::Injects(namespace) => (String::new(), namespace.clone()),
            Self::Known(id) => (id.namespace.clone(), id.name.clone()),
            Self::Group(key)
            | Self::TcpRoute(key)
            | Self::UdpRoute(key)
            | Self::Pod(key)
            | Self::Binding(key)
            | Self::Target(key)
            | Self::Slice(key)
            | Self::Written(key) => key.clone(),
            _ => return None,
        })
    }

    /// Whether what it comes to is a part of the mesh.
    pub fn is_of_mesh(&self) -> bool {
        matches!(self, Self::Grants(_) | Self::Service(_) | Self::Workload(_) | Self::Class(_))
    }
}

/// What a unit has come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// It is so.
    Yes,
    TrustDomain(TrustDomain),
    Text(Arc<str>),
    MeshWide(MeshWide),
    Modes(AccessMode, MtlsMode),
    Group(Arc<Group>),
    Ports(Ports),
    Instance(Arc<Instance>),
    Identities(Arc<BTreeSet<Arc<SpiffeId>>>),
    Allowed(Arc<Allowed>),
    Grants(Arc<Vec<Arc<Grant>>>),
    Slice(Shared<k8s_openapi::api::discovery::v1::EndpointSlice>),
    Known(Arc<Known>),
    Endpoints(Arc<BTreeMap<u16, Vec<Endpoint>>>),
    Written(Arc<Written>),
    BudgetExceeded(Arc<BTreeSet<Key>>),
    Split(Arc<Split>),
    Load(Load),
    Losses(Arc<Losses>),
    Claims(Arc<BTreeSet<(IpAddr, u16)>>),
    Owner(ServiceId),
    Service(Arc<service::Service>),
    Served(Arc<BTreeMap<u16, Protocol>>),
    Workload((Arc<workload::Workload>, Arc<Class>)),
    Class(Arc<Class>),
}

/// What a value holds, if it is of that variant.
macro_rules! variant {
    ($value:expr, $variant:ident) => {
        match $value {
            crate::lower::unit::Value::$variant(value) => Some(value),
            _ => None,
        }
    };
}
pub(super) use variant;
