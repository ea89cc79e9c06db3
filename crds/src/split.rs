//! `split.smi-spec.io`: shares of a Service's traffic for other Services.
//!
//! One module an API version; the storage version's types are the hub, re-exported here.

pub mod v1alpha4;

pub use v1alpha4::{Backend, RouteGroupReference, TrafficSplit, TrafficSplitSpec};

/// The API group.
pub const GROUP: &str = "split.smi-spec.io";
