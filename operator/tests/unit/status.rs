//! Conditions of an object for what is known of it, the times at which statuses are written, and acknowledgements of
//! proxies.
//!
//! The conditions are a table: `operator/tests/status/conditions.txt` has every case with its status, in a form for
//! people. `UPDATE_EXPECT=1` writes the file.

mod conditions;
mod judge;
mod plan;
mod programmed;
mod scenario;
mod steps;
