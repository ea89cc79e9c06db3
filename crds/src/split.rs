//! `split.smi-spec.io`: distribution of a Service's traffic to other Services.
//!
//! Has one module for each API version; the types of the storage version are the hub, and are re-exported here.

pub mod v1alpha4;

pub use v1alpha4::{Backend, RouteGroupReference, TrafficSplit, TrafficSplitSpec};

/// The API group.
pub const GROUP: &str = "split.smi-spec.io";
