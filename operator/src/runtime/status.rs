//! Starts what keeps statuses true.
//!
//! Called by `runtime` at the start.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use smidge_xds::server::Proxies;
use tokio::sync::watch;

use super::{Core, Tasks, pipeline::Pipeline};
use crate::status::keep::{self, Sources};

/// Says on the objects what became of them.
pub(super) fn status(
    core: &Core,
    pipeline: &Pipeline,
    proxies: Proxies,
    registry: &mut Registry,
    tasks: &mut Tasks,
) {
    let (replicas, others) = watch::channel(Arc::default());
    let sources = Sources {
        turns: pipeline.turns.clone(),
        proxies,
        others,
        leader: pipeline.leader.clone(),
        own: watch::Sender::new(Arc::default()),
        client: core.client.clone(),
        clock: core.clock.clone(),
        metrics: keep::Metrics::register(registry),
    };
    tasks.spawn("status", async move {
        let _replicas = replicas;
        keep::keep(sources).await;
    });
}
