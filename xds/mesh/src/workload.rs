//! A workload instance and its class: who it is, and what its inbound side looks like.
//!
//! The class becomes one set of inbound resources, shared by all instances of it. The model says workload, never pod.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    access::{AccessMode, MtlsMode},
    id::{ClassId, SpiffeId},
    service::Protocol,
};

/// One instance that runs a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Its identity.
    pub identity: SpiffeId,
    /// The kind of the thing that it is an instance of, for example `Deployment`.
    pub kind: String,
    /// The name of that thing, for example `bookstore-v1`.
    pub name: String,
    /// Its inbound side.
    pub class: ClassId,
}

/// The inbound side of every instance with the same identity, ports and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Class {
    /// The identity that callers are granted access to.
    pub identity: SpiffeId,
    /// Ports on the instance that Services send to or that the workload declares. Others are closed, except where access
    /// is not enforced and mTLS is permissive: there they pass.
    pub ports: BTreeMap<u16, Protocol>,
    /// Whether grants are needed. Changes rules alone, so it is no part of what tells classes apart.
    pub access: AccessMode,
    /// Whether plaintext callers are let in at all.
    pub mtls: MtlsMode,
}
