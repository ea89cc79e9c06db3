//! What the black-box tests are written with: a cluster, namespaces of their own, pods to look out of, and the mesh's
//! public faces.
//!
//! Talks to what runs, through the Kubernetes API alone; knows neither the operator's nor the xDS crate's code. The
//! mesh is installed once, before the tests (`e2e/mesh`), and every test brings its own namespaces.

pub mod ads;
pub mod bookstore;
pub mod cluster;
pub mod kubectl;
pub mod namespace;
pub mod operator;
pub mod pod;
pub mod raw;
pub mod refuser;
pub mod report;
pub mod status;
pub mod switch;
pub mod token;
pub mod wait;

pub use cluster::Cluster;
pub use namespace::{Namespace, alone, with_temp_ns};
pub use pod::{Pod, Running};
pub use wait::until;
