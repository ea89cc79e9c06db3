//! SMI's objects → nodes: TrafficTargets, IdentityBindings, routes, TrafficSplits.
//!
//! One file per noun. Called by `compute`. What cannot be read allows nothing.

pub(super) mod binding;
pub(super) mod effect;
mod header;
pub mod metrics_policy;
mod mixed;
pub mod regex;
pub(super) mod route;
pub(super) mod split;
mod subject;
pub(super) mod target;
mod unmatchable;
