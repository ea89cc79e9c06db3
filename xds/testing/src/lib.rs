//! Fixtures for tests of `xds` and of the operator: meshes, a server with fake proxies, a client, real Envoys.
//!
//! It is a crate of its own, so that each test uses the part that it needs, and the compiler sees the whole. Tests and
//! examples depend on it, and no program does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "of tests: what goes wrong here ends the test that asked"
)]

pub mod binaries;
pub mod caller;
pub mod client;
pub mod collector;
pub mod counting;
pub mod fixture;
pub mod http1;
pub mod http2;
pub mod inbound;
pub mod meshes;
pub mod outbound;
pub mod process;
pub mod properties;
pub mod proxies;
pub mod trust;
pub mod wide;
