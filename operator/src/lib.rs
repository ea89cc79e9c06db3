//! From Kubernetes to the mesh model, and every other face of Smidge.
//!
//! `source` fills `inputs`, `lower` turns them into a mesh and findings, `publish` makes a snapshot of it that
//! `smidge_xds::server` serves; `report` tells users what was found, and `explain` answers who may call whom. `ca` and
//! `auth` are identity, `injector` puts proxies into pods, `admission` judges what users want to store, `webhook` is where
//! the API server asks both, `cli` is the face on the command line.
//!
//! Does not contain Envoy's messages: those belong to `smidge_xds`.

pub mod admin;
pub mod auth;
pub mod ca;
pub mod cli;
pub mod clock;
pub mod http;
pub mod injector;
pub mod lease;
pub mod objects;
pub mod peers;
pub mod publish;
pub mod queue;
pub mod redirect;
pub mod report;
pub mod runtime;
pub mod shares;
pub mod source;
pub mod status;
pub mod tls;
pub mod webhook;

pub use smidge_lower as lower;
pub use smidge_lower::{admission, bypass, documents, explain, finding, inputs, kinds};
