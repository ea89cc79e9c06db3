//! `access.smi-spec.io`: which identities may call which workloads.
//!
//! Has one module for each API version; the types of the storage version are the hub, and are re-exported here.

pub mod v1alpha4;

pub use v1alpha4::{
    IdentityBinding, IdentityBindingSpec, IdentitySchemes, PodLabelSelector, Rule, Subject, TrafficTarget,
    TrafficTargetSpec,
};

/// The API group.
pub const GROUP: &str = "access.smi-spec.io";
