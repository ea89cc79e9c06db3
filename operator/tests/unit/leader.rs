//! One replica leads and writes, against a stand-in for the API server: Leases with conflicts, and status by
//! server-side apply.

mod api_server;
mod lease;
mod writer;
