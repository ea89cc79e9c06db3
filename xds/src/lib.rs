//! From the mesh model to Envoy on the wire.
//!
//! `resources(&Mesh)` builds one pool of Envoy resources; `view` is the set of names in it that one proxy sees;
//! `delta::Session` decides what a stream must be told; `server` is the gRPC around it. `bootstrap` is what a proxy
//! starts with, `render` the same configuration as one file.
//!
//! Does not contain: Kubernetes, SMI, a certificate authority, files, environment, clocks (but for timers in `server`).

pub mod bootstrap;
pub mod delta;
mod envoy;
mod index;
pub mod metrics;
pub mod provenance;
mod reach;
pub mod refusal;
pub mod render;
pub mod resources;
pub mod server;
pub mod snapshot;
pub mod view;

pub use smidge_mesh as mesh;
