//! One replica leads and writes, against a stand-in for the API server: Leases with conflicts, and status by
//! server-side apply.

// Clippy lets tests unwrap, but does not treat the functions that they share as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "leader/api_server.rs"]
mod api_server;
#[path = "leader/lease.rs"]
mod lease;
#[path = "leader/writer.rs"]
mod writer;
