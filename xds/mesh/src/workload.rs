//! Workload instance and its class: the identity and the inbound side of an instance.
//!
//! A class is turned into one set of inbound resources, which all its instances share. The model uses the word
//! workload, never pod.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    access::{AccessMode, MtlsMode},
    id::{ClassId, SpiffeId},
    matches::Matches,
    proxy::{Families, ProxyKind, TrafficStats},
    service::Protocol,
    source::SourceRef,
};

/// Workload instance that runs a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The identity of the instance.
    pub identity: SpiffeId,
    /// The kind of the workload, for example `Deployment`.
    pub kind: String,
    /// The name of the workload, for example `bookstore-v1`.
    pub name: String,
    /// The class, which has the inbound side of the instance.
    pub class: ClassId,
}

/// Inbound side of every instance with the same identity, ports and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Class {
    /// The identity to which callers are granted access.
    pub identity: SpiffeId,
    /// The ports on the instance that are targets of Services or that the workload declares. Other ports are closed,
    /// except where access is not enforced and mTLS is permissive: there they are open.
    pub ports: BTreeMap<u16, Protocol>,
    /// The access mode: whether callers need a grant. It changes only rules, so it does not distinguish classes.
    pub access: AccessMode,
    /// The mTLS mode: whether plaintext callers are accepted.
    pub mtls: MtlsMode,
    /// True if the instances are being deleted and accept plaintext callers: these shall connect elsewhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ends: bool,
    /// The statistics of traffic that the proxies can count.
    #[serde(skip_serializing_if = "TrafficStats::is_none")]
    pub traffic: TrafficStats,
    /// The IP families at which the proxies listen.
    #[serde(skip_serializing_if = "Families::is_v4")]
    pub families: Families,
    /// The routes by which the statistics tell requests apart, in the order in which they are tried. They change only
    /// what is counted, so they do not distinguish classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<MeasuredRoutes>,
}

impl Class {
    /// Returns the kind of the proxies.
    pub fn proxy_kind(&self) -> ProxyKind {
        (self.traffic, self.families)
    }
}

/// Routes that one object has measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MeasuredRoutes {
    /// The object.
    pub origin: SourceRef,
    /// The matches, in order.
    pub matches: Vec<Matches>,
}
