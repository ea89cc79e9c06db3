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

mod corpus;
mod differential;
mod golden;
mod golden_ads;
mod inject;
mod inject_probes;
mod machine;
mod redirect;
mod replicas;
mod sandbox;
