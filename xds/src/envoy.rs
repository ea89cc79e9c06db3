//! Turns mesh values into Envoy messages: a file per Envoy noun, each builder a function from a small input.
//!
//! Pure. Called by `resources`, which encodes the messages. Knows nothing of pools, views, versions and streams.

pub mod access_log;
pub mod answer;
pub mod audit;
pub mod cluster;
pub mod endpoints;
pub mod filter;
pub mod listener;
pub mod log_filter;
pub mod names;
pub mod predicate;
pub mod rbac;
pub mod request;
pub mod retry;
pub mod route;
pub mod tls;
pub mod tracing;
pub mod traffic;
pub mod wire;
