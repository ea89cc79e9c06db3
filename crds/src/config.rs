//! `smidge.mesh`: settings of the mesh, workloads outside Kubernetes, and what is measured in detail, for which SMI has no
//! kind.
//!
//! Has one module for the settings in each API version, and one for each other kind; the types of the storage version
//! are the hub, and are re-exported here.

pub mod external_workload;
pub mod metrics_policy;
pub mod v1alpha1;

pub use external_workload::{
    ExternalCredential, ExternalPort, ExternalWorkload, ExternalWorkloadSpec, InvalidPin, pinned_key,
};
pub use metrics_policy::{MetricsPolicy, MetricsPolicySpec, MetricsTarget};
pub use v1alpha1::{
    AccessMode, AccessSettings, BudgetSettings, HeaderRegexMatch, InjectionSettings, LimitSettings,
    MeshConfig, MeshConfigSpec, MtlsMode, MtlsSettings, PathRegexEnd, UndeclaredPorts, UnknownWord,
};

/// The API group.
pub const GROUP: &str = "smidge.mesh";
/// Name of the only `MeshConfig` that is in effect.
pub const DEFAULT: &str = "default";
