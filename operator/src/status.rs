//! Says on every SMI object, and on MeshConfig, what the mesh made of it.
//!
//! Fed by `publish` (objects, findings, snapshot), the xDS server (who has acknowledged what) and `peers` (the same of
//! the other replicas); writes through the API server, if this replica leads. `object`, `programmed`, `conditions` and
//! `plan` are pure; `keep` is the loop around them and `write` the one call. docs/status.md is for users.

pub mod conditions;
pub mod keep;
pub mod object;
pub mod plan;
pub mod programmed;
mod write;
