//! Tests that need no Envoy: one binary, as each links the whole crate. Those with Prometheus or promtool are skipped without it.
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

mod admission;
mod alerts;
mod auth;
mod ca;
mod check;
mod cni;
mod convert_webhook;
mod dashboards;
mod explain;
mod folder;
mod inject;
mod inject_live;
mod inject_webhook;
mod leader;
mod machine;
mod pages;
mod peers;
mod prometheus;
mod reasons;
mod sandbox;
mod sources;
mod standalone;
mod stat;
mod status;
mod telemetry;
mod traffic;
mod traffic_api;
mod webhook_callers;
