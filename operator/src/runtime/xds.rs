//! Starts the xDS server for the proxies.
//!
//! Called by `runtime` at the start. Does not know by what proxies prove who they are.

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use smidge_xds::server::{self, Authenticator, ComputeLimiter, Nack, Proxies, Reports, Server, versions};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tracing::error;

use super::{Core, Tasks, pipeline::Pipeline};
use crate::tls;

/// Access to the xDS server: its port, and how proxies prove who they are.
pub(super) struct Access<A> {
    /// The port.
    pub listener: TcpListener,
    /// TLS of the port.
    pub tls: Arc<ServerConfig>,
    /// Authenticates streams.
    pub authenticator: A,
    /// Receives the statistics that proxies push.
    pub reports: Arc<dyn Reports>,
    /// Receives the responses that proxies refuse.
    pub nacks: mpsc::Sender<Nack>,
}

/// Serves snapshots and certificates to proxies; returns those that are connected.
pub(super) fn xds<A: Authenticator>(
    core: &Core,
    pipeline: &Pipeline,
    access: Access<A>,
    registry: &mut Registry,
    tasks: &mut Tasks,
) -> Proxies {
    let Access { listener, tls: config, authenticator, reports, nacks } = access;
    // Shared by all computations that a large number of proxies can cause at once.
    let compute_limiter = ComputeLimiter::half();
    let (accepted, connections) = mpsc::channel(64);
    tasks.spawn(
        "xds listener",
        tls::accept(listener, config, compute_limiter.clone(), tls::CONCURRENT, accepted),
    );
    let proxies = Proxies::default();
    let registry = registry.sub_registry_with_prefix("xds");
    versions::register(registry, proxies.clone());
    let server = Server {
        authenticator,
        certificates: core
            .authorities
            .leaves()
            .with_lifetime(Duration::from_secs(core.settings.leaf_lifetime_seconds)),
        hub: pipeline.hub.clone(),
        metrics: smidge_xds::metrics::Metrics::register(registry),
        proxies: proxies.clone(),
        reports,
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
    proxies
}
