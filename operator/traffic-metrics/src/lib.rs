//! Turns the statistics that proxies push into the traffic of Kubernetes objects, and that into TrafficMetrics of SMI.
//!
//! Pure: time is a parameter. `operator::traffic` receives, serves and queries. Does not know the mesh model,
//! Envoy's configuration or a Kubernetes client.
//!
//! A push goes through `series` (points), `peer` and `outcome` (their labels) into `store` (windows of each proxy);
//! `exchange` carries windows between replicas and combines them, `answer` turns them into the `traffic` of objects, which
//! `subject` finds by what `directory` knows of proxies. `counters` sums the same up for Prometheus, under the names of
//! `families`; `promql` queries these metrics, and `samples` turns the answers into the same `traffic`.

pub mod answer;
pub mod api;
pub mod counters;
pub mod directory;
pub mod exchange;
pub mod families;
pub mod flow;
pub mod outcome;
pub mod peer;
pub mod promql;
pub mod samples;
pub mod series;
pub mod store;
mod subject;
pub mod traffic;
