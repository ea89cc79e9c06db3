//! Tests with real Envoys: one binary, as each links the whole crate.
//!
//! A module for each subject. What measures the memory of its process, or sets what belongs to the process as a whole, is a
//! program of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test ends where it goes wrong"
)]

mod access_logs;
mod ads_envoy;
mod bootstrap;
mod envoy_accepts;
mod modes;
mod paths;
mod rbac_verdicts;
mod refusals;
mod requests;
mod retries;
mod route_verdicts;
mod settings;
mod statistics;
mod tracing;
mod traffic;
mod transparency;
mod transport;
