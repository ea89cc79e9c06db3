//! Kubernetes' own objects → nodes: Services, EndpointSlices, pods, namespaces, and the settings of the mesh.
//!
//! One file per noun. Called by `compute`; knows nothing of SMI except that a Service may have a split.

pub(super) mod endpoints;
pub(super) mod external_workload;
pub mod machine;
pub(super) mod mesh_service;
pub(super) mod metadata;
pub(super) mod protocol;
pub(super) mod service;
mod service_fields;
pub(super) mod settings;
pub mod workload;
