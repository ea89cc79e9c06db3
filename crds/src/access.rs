//! `access.smi-spec.io`: who may call whom.
//!
//! One module an API version; the storage version's types are the hub, re-exported here.

pub mod v1alpha4;

pub use v1alpha4::{
    IdentityBinding, IdentityBindingSpec, IdentitySchemes, PodLabelSelector, Rule, Subject, TrafficTarget,
    TrafficTargetSpec,
};

/// The API group.
pub const GROUP: &str = "access.smi-spec.io";
