//! Turns the statistics that proxies push into the traffic of Kubernetes objects, and that into TrafficMetrics of SMI.
//!
//! Pure: time is a parameter. `operator::traffic_metrics` receives, serves and queries. Does not know the mesh model,
//! Envoy's configuration or a Kubernetes client.

pub mod api;
pub mod traffic;
