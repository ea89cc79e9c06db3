//! Says on every SMI object, and on MeshConfig, what the mesh made of it.
//!
//! Fed by `publish` (objects, findings, snapshot), the xDS server (who has acknowledged what) and `peers` (the same of
//! the other replicas); writes through the API server, if this replica leads. All but `keep`, the loop, and `write`, the one
//! call, is pure, and goes on from the last time at the cost of what differs. docs/status.md is for users.

mod agenda;
pub mod conditions;
mod found;
pub mod judge;
pub mod keep;
pub mod plan;
pub mod programmed;
mod write;
