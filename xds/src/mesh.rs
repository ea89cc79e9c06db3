//! The mesh model: what a mesh *is*, before anybody has thought of Envoy.
//!
//! Made by `operator::lower` from the objects of one or more clusters; read by `resources` and `view`.
//! Knows neither Kubernetes nor Envoy, holds no secret, no clock and nothing that differs between two processes
//! that read the same objects. Every collection is ordered, so equal meshes print and encode alike.

pub mod access;
pub mod id;
pub mod route;
pub mod service;
pub mod trust;
pub mod workload;

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use access::Grant;
use id::{ClassId, ProxyId, ServiceId, SpiffeId};
use service::Service;
use trust::Trust;
use workload::{Class, Workload};

/// One mesh at one moment, read only as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Mesh {
    /// Whom the mesh trusts, and under which name it goes.
    pub trust: Trust,
    /// Every Service that is in the mesh: at least one of its own or its split's endpoints is.
    pub services: BTreeMap<ServiceId, Service>,
    /// Every workload instance that runs a proxy.
    pub workloads: BTreeMap<ProxyId, Workload>,
    /// What workload instances with the same identity, ports and settings share.
    pub classes: BTreeMap<ClassId, Class>,
    /// What each destination identity allows; an identity without an entry allows nothing. Destinations of one grant share
    /// it.
    pub grants: BTreeMap<SpiffeId, Vec<Arc<Grant>>>,
}
