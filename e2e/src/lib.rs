//! Library of the black-box tests: the cluster, a namespace for each test, pods to run commands in, and the public
//! interfaces of the mesh.
//!
//! Uses the running mesh through the Kubernetes API alone; depends neither on the operator's nor on the xDS crate's
//! code. The mesh is installed once, before the tests (`e2e/mesh`), and every test creates its own namespaces.

pub mod ads;
pub mod bookstore;
pub mod cluster;
pub mod example;
pub mod kubectl;
pub mod load;
pub mod nacking_client;
pub mod namespace;
pub mod node;
pub mod operator;
pub mod pod;
pub mod prometheus;
pub mod raw;
pub mod report;
pub mod settings;
pub mod status;
pub mod switch;
pub mod token;
pub mod wait;

pub use cluster::Cluster;
pub use load::Load;
pub use namespace::{Namespace, exclusive, with_temp_ns};
pub use pod::{Pod, Running};
pub use wait::until;
