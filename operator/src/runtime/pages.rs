//! Starts the server of the operator's own pages.
//!
//! Called by `runtime` at the start.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use smidge_xds::mesh::id::{ClusterId, TrustDomain};
use tracing::info;

use super::{Core, Error, Tasks, pipeline::Pipeline, xds::Xds};
use crate::admin;

/// Starts the server of the pages.
pub(super) fn pages(
    core: &Core,
    pipeline: &Pipeline,
    xds: Xds,
    registry: Registry,
    tasks: &mut Tasks,
) -> Result<(), Error> {
    let Core { settings, client, .. } = core;
    let domain = TrustDomain(settings.trust_domain.clone());
    let cluster = ClusterId(settings.cluster_name.clone());
    let (server, address) = ("pages", settings.admin_listen);
    let listener = admin::listen(address).map_err(|source| Error::Listen { server, address, source })?;
    info!(server, %address, "listening");
    let readers = admin::Readers::new(client.clone(), xds.authenticator.issuer(), &domain, &cluster);
    let router = admin::router(admin::Pages {
        awaited: pipeline.awaited.clone(),
        snapshots: pipeline.snapshots.clone(),
        findings: pipeline.findings.clone(),
        proxies: xds.registry,
        registry: Arc::new(registry),
        readers: Arc::new(readers),
    });
    let stop = tasks.stopping();
    tasks.spawn("pages", admin::serve(listener, router, stop));
    Ok(())
}
