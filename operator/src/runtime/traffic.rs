//! Starts the store of what proxies have counted.
//!
//! Called by `runtime` at the start. Always on: proxies that push nothing cost nothing.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use smidge_traffic_metrics::store::Limits;

use super::{Settings, Tasks, pipeline::Pipeline};
use crate::traffic::{Metrics, Receiver, directory::MeshDirectory};

/// Creates the store of this replica, and starts the task that keeps it small.
pub(super) fn receiver(
    settings: &Settings,
    pipeline: &Pipeline,
    registry: &mut Registry,
    tasks: &mut Tasks,
) -> Arc<Receiver> {
    let metrics = Metrics::register(registry.sub_registry_with_prefix("traffic"));
    let directory = MeshDirectory::new(pipeline.clusters.clone(), pipeline.snapshots.clone());
    let limits = if settings.prometheus.pods { Limits::with_pod_counters() } else { Limits::default() };
    let receiver = Arc::new(Receiver::new(limits, directory, metrics));
    let swept = Arc::clone(&receiver);
    tasks.spawn("traffic", async move { swept.sweep().await });
    receiver
}
