//! Tests that need no program beside this one: one binary, as each links the whole crate.
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
mod ads;
mod delta_model;
mod determinism;
mod drain;
mod fairness;
mod golden;
mod measured;
mod reports;
mod steps;
mod unknown_names;
