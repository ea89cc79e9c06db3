//! Writes the status of every SMI object and of MeshConfig: the effect that the object has in the mesh.
//!
//! Receives objects, findings and snapshots from `publish`, the answers of proxies from the xDS server, and the counts
//! of other replicas from `peers`; writes through the API server, if this replica leads, or into the inputs. All but `status_loop`, and
//! `write`, the one call, is pure, and computes from the last result at the cost of the difference. docs/status.md is
//! for users.

mod agenda;
pub mod conditions;
mod found;
pub mod judge;
pub mod plan;
pub mod programmed;
pub mod status_loop;
pub mod write;
