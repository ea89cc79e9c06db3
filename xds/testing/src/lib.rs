//! What several tests of `xds` and of the operator need: meshes, a server with made-up proxies, a client, real Envoys.
//!
//! A crate of its own, so that each test takes the part that it needs of one whole that the compiler sees. Tests and examples
//! depend on it, and no program does.

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
pub mod fixture;
pub mod inbound;
pub mod meshes;
pub mod process;
pub mod properties;
pub mod proxies;
pub mod wide;
