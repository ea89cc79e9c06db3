//! Starts the xDS server for the proxies.
//!
//! Called by `runtime` at the start.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use smidge_xds::{
    mesh::id::{ClusterId, TrustDomain},
    server::{self, ComputeLimiter, Proxies, Server},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::error;

use super::{Core, Error, Tasks, listen, pipeline::Pipeline};
use crate::{auth, report, tls};

/// Parts of the xDS server that others use.
pub(super) struct Xds {
    /// The connected proxies.
    pub registry: Proxies,
    /// Authenticates tokens.
    pub authenticator: Arc<auth::TokenAuthenticator>,
}

/// Serves snapshots and certificates to proxies.
pub(super) fn xds(
    core: &Core,
    pipeline: &Pipeline,
    registry: &mut Registry,
    tasks: &mut Tasks,
) -> Result<Xds, Error> {
    let Core { settings, client, clock, authorities } = core;
    let listener = listen("xds", settings.xds_listen)?;
    let failed = |source| Error::Tls { server: "xds", source };
    let certificate =
        Arc::new(authorities.control_plane_certificate(settings.names_of("smidge")).map_err(failed)?);
    let config = certificate.tls(&[b"h2"]).map_err(failed)?;
    tasks.spawn("xds certificate", certificate.run());
    // Shared by all computations that a large number of proxies can cause at once.
    let compute_limiter = ComputeLimiter::half();
    let (accepted, connections) = mpsc::channel(64);
    tasks.spawn(
        "xds listener",
        tls::accept(listener, config, compute_limiter.clone(), tls::CONCURRENT, accepted),
    );

    let authenticator = Arc::new(auth::TokenAuthenticator::new(auth::Settings {
        domain: TrustDomain(settings.trust_domain.clone()),
        cluster: ClusterId(settings.cluster_name.clone()),
        client: client.clone(),
        pods: Arc::clone(&pipeline.pods),
        owner: crate::lower::workload::owner,
        clock: clock.clone(),
        metrics: auth::Metrics::register(registry.sub_registry_with_prefix("auth")),
    }));
    let maintained = Arc::clone(&authenticator);
    tasks.spawn("token keys", async move { maintained.run().await });

    let (nacks, refused) = mpsc::channel(256);
    tasks.spawn("refusals", report::refusals(client.clone(), refused));
    let proxies = Proxies::default();
    let server = Server {
        authenticator: Arc::clone(&authenticator),
        certificates: authorities.leaves(),
        hub: pipeline.hub.clone(),
        metrics: smidge_xds::metrics::Metrics::register(registry.sub_registry_with_prefix("xds")),
        proxies: proxies.clone(),
        nacks,
        compute_limiter,
        settings: server::Settings::default(),
    };
    let stop = tasks.stopping();
    tasks.spawn("xds", async move {
        if let Err(error) = server.serve(ReceiverStream::new(connections), stop).await {
            error!(%error, "xDS server failed");
        }
    });
    Ok(Xds { registry: proxies, authenticator })
}
