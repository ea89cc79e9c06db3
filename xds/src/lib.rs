//! Turns the mesh model into Envoy configuration on the wire.
//!
//! `resources(&Mesh)` builds one pool of Envoy resources; `view` is the set of names in it that one proxy sees;
//! `delta::Session` decides what a stream must be sent; `server` is the gRPC around it. `bootstrap` is the static
//! configuration with which a proxy starts, `render` turns a view into one static configuration.
//!
//! Does not contain: Kubernetes, SMI, a certificate authority, files, environment, clocks (except timers in `server`).

pub mod backoff;
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
