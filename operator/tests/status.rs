//! What stands on an object for what is known of it, which statuses are written when, and who has acknowledged what.
//!
//! The conditions are a table: `operator/tests/status/conditions.txt` has every case with its status, as a person reads
//! it. `UPDATE_EXPECT=1` writes the file.

// Clippy lets tests unwrap, but does not take the functions that they share for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "status/conditions.rs"]
mod conditions;
#[path = "status/judge.rs"]
mod judge;
#[path = "status/plan.rs"]
mod plan;
#[path = "status/programmed.rs"]
mod programmed;
#[path = "status/steps.rs"]
mod steps;
#[path = "status/town.rs"]
mod town;
