//! Helpers of several tests of the operator: a stand-in for the API server, a signer of tokens in place of the cluster,
//! a certificate, and a client of the webhooks with the attacks on them.
//!
//! A crate of its own, so that each test uses its part of one whole that the compiler checks. Tests and the bench
//! depend on it, and no program that is shipped does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::new_without_default,
    missing_docs,
    reason = "of tests: what goes wrong here ends the test that asked"
)]

pub mod api_server;
pub mod attack;
pub mod control_plane;
pub mod corpus;
pub mod reviews;
pub mod tls;
pub mod tokens;
pub mod webhook;
