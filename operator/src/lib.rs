//! Turns Kubernetes objects into the mesh model, and holds every other interface of Smidge.
//!
//! `source` fills `inputs`, `lower` turns them into a mesh and findings, `publish` makes a snapshot of it that
//! `smidge_xds::server` serves; `report` shows the findings to users, and `explain` answers which workload may call
//! which. `traffic` has what proxies have counted. `ca` and `auth` are identity, `injector` adds proxies to pods, `admission` judges objects that users want to
//! store, `webhook` serves both to the API server, `cli` is the command line.
//!
//! Does not contain Envoy's messages: those belong to `smidge_xds`.

pub mod admin;
pub mod auth;
pub mod ca;
pub mod cli;
pub mod clock;
pub mod cni;
pub mod dashboards;
pub mod http;
pub mod https;
pub mod lease;
pub mod listen;
pub mod objects;
pub mod peers;
pub mod publish;
pub mod publish_settings;
pub mod queue;
pub mod report;
pub mod runtime;
pub mod sandbox;
pub mod shares;
pub mod source;
pub mod status;
pub mod telemetry;
pub mod tls;
pub mod traffic;
pub mod traffic_api;
pub mod webhook;

pub use smidge_injector::{self as injector, redirect};
pub use smidge_lower as lower;
pub use smidge_lower::{admission, bypass, documents, explain, finding, inputs, kinds};
