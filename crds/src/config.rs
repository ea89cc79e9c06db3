//! `smidge.mesh`: settings of the mesh that SMI has no kind for.
//!
//! One module an API version; the storage version's types are the hub, re-exported here.

pub mod v1alpha1;

pub use v1alpha1::{
    AccessMode, AccessSettings, BudgetSettings, InjectionSettings, MeshConfig, MeshConfigSpec, MtlsMode,
    MtlsSettings, PathRegexEnd, UnknownWord,
};

/// The API group.
pub const GROUP: &str = "smidge.mesh";
/// The name of the one `MeshConfig` that counts.
pub const DEFAULT: &str = "default";
