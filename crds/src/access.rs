//! `access.smi-spec.io`: who may call whom.
//!
//! One module an API version; the storage version's types are the hub, re-exported here.

pub mod v1alpha3;

pub use v1alpha3::{Rule, Subject, TrafficTarget, TrafficTargetSpec};

/// The API group.
pub const GROUP: &str = "access.smi-spec.io";
