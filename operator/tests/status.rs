//! Conditions of an object for what is known of it, the times at which statuses are written, and acknowledgements of
//! proxies.
//!
//! The conditions are a table: `operator/tests/status/conditions.txt` has every case with its status, in a form for
//! people. `UPDATE_EXPECT=1` writes the file.

// Clippy lets tests unwrap, but does not treat the functions that they share as tests.
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
