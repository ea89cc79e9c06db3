//! Starts the operator's own pages.
//!
//! Called by `runtime` at the start.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use smidge_xds::server::Proxies;
use tracing::error;

use super::{Core, Error, Tasks, listen, pipeline::Pipeline};
use crate::admin;

/// Shows what goes on.
pub(super) fn pages(
    core: &Core,
    pipeline: &Pipeline,
    proxies: Proxies,
    registry: Registry,
    tasks: &mut Tasks,
) -> Result<(), Error> {
    let listener = listen("pages", core.settings.admin_listen)?;
    let router = admin::router(admin::Pages {
        awaited: pipeline.awaited.clone(),
        snapshots: pipeline.snapshots.clone(),
        findings: pipeline.findings.clone(),
        proxies,
        registry: Arc::new(registry),
    });
    let stop = tasks.stopping();
    tasks.spawn("pages", async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            error!(%error, "the operator's own pages have ended");
        }
    });
    Ok(())
}
