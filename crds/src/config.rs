//! `smidge.mesh`: settings of the mesh for which SMI has no kind.
//!
//! Has one module for each API version; the types of the storage version are the hub, and are re-exported here.

pub mod v1alpha1;

pub use v1alpha1::{
    AccessMode, AccessSettings, BudgetSettings, HeaderRegexMatch, InjectionSettings, LimitSettings,
    MeshConfig, MeshConfigSpec, MtlsMode, MtlsSettings, PathRegexEnd, UndeclaredPorts, UnknownWord,
};

/// The API group.
pub const GROUP: &str = "smidge.mesh";
/// Name of the only `MeshConfig` that is in effect.
pub const DEFAULT: &str = "default";
