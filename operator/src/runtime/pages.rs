//! Starts the server of the operator's own pages.
//!
//! Called by `runtime` at the start.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use smidge_xds::server::Proxies;
use tracing::info;

use super::{Core, Error, Tasks, pipeline::Pipeline};
use crate::{
    admin::{self, Readers},
    traffic::{Receiver, exposition},
};

/// Starts the server of the pages. `readers` decides who may read the debug pages.
pub(super) fn pages(
    core: &Core,
    pipeline: &Pipeline,
    (proxies, readers, receiver): (Proxies, Readers, Arc<Receiver>),
    registry: Registry,
    tasks: &mut Tasks,
) -> Result<(), Error> {
    let (server, address) = ("pages", core.settings.admin_listen);
    let listener = admin::listen(address).map_err(|source| Error::Listen { server, address, source })?;
    info!(server, %address, "listening");
    let (names, domain) = (core.settings.prometheus.names.clone(), core.settings.cluster_domain.clone());
    let router = admin::router(admin::Pages {
        awaited: pipeline.awaited.clone(),
        snapshots: pipeline.snapshots.clone(),
        findings: pipeline.findings.clone(),
        published: pipeline.published.clone(),
        proxies,
        registry: Arc::new(registry),
        traffic: Arc::new(exposition::registry(receiver, names, domain)),
        traffic_readers: core.settings.prometheus.readers,
        readers: Arc::new(readers),
    });
    let stop = tasks.stopping();
    tasks.spawn("pages", admin::serve(listener, router, stop));
    Ok(())
}
