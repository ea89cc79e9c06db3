//! Starts the task that keeps statuses up to date, and those that carry counts and traffic between replicas.
//!
//! Called by `runtime` at the start.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use smidge_xds::server::Proxies;
use tokio::sync::watch;
use tracing::error;

use super::{Core, Error, Tasks, kubernetes::Kubernetes, listen, pipeline::Pipeline};
use crate::{
    auth::TokenAuthenticator,
    https,
    peers::{
        fetch::{self, PeerClient, PeerPoller},
        serve::{self, Replica},
    },
    status::{
        programmed::AckCounts,
        status_loop::{self, Sources},
    },
    traffic::{
        EmbeddedSource, Receiver,
        replicas::{self, Replicas},
    },
};

/// Service whose name is in the certificate by which replicas authenticate each other's servers: the control plane's.
const SERVICE: &str = "smidge";

/// Starts the tasks that write statuses, and the server and the client of counts and of traffic. Returns the source of
/// the traffic of all replicas.
pub(super) fn status(
    core: &Core,
    (kubernetes, pipeline): (&Kubernetes, &Pipeline),
    (proxies, authenticator, receiver): (&Proxies, &Arc<TokenAuthenticator>, Arc<Receiver>),
    registry: &mut Registry,
    tasks: &mut Tasks,
) -> Result<EmbeddedSource, Error> {
    let (own, counts) = watch::channel(AckCounts::default());
    let (counted, others) = watch::channel(Arc::default());
    let sources = Sources {
        published: pipeline.published.clone(),
        proxies: proxies.clone(),
        others,
        leader: kubernetes.leader.clone(),
        own,
        writer: kubernetes.client.clone(),
        clock: core.clock.clone(),
        metrics: status_loop::Metrics::register(registry),
    };
    tasks.spawn("status", status_loop::run(sources));

    let Core { settings, authorities, .. } = core;
    let names = settings.names_of(SERVICE);
    let listener = listen("replicas", settings.peer_listen)?;
    let failed = |source| Error::Tls { server: "replicas", source };
    let certificate = Arc::new(authorities.control_plane_certificate(names.clone()).map_err(failed)?);
    let config = certificate.tls(&[b"http/1.1"]).map_err(failed)?;
    tasks.spawn("replica certificate", certificate.run());
    let replica = Replica {
        authenticator: Arc::clone(authenticator),
        counts,
        published: pipeline.published.clone(),
        namespace: settings.system_namespace.clone(),
        name: settings.pod_name.clone(),
    };
    let traffic = replicas::router(replica.clone(), Arc::clone(&receiver));
    let router = serve::router(replica).merge(traffic);
    let stop = tasks.stopping();
    tasks.spawn("replicas", async move {
        if let Err(error) = https::serve(listener, config, router, stop).await {
            error!(%error, "peer server failed");
        }
    });

    let name = names.first().map(String::as_str).unwrap_or_default();
    let port = settings.peer_listen.port();
    let asker = PeerClient::new(&authorities.control_plane_roots(), name, settings.peer_token.clone(), port);
    let asker = Arc::new(asker.map_err(Error::Replicas)?);
    let others = Replicas {
        client: Arc::clone(&asker),
        published: pipeline.published.clone(),
        name: settings.pod_name.clone(),
        port,
    };
    let fetcher = PeerPoller {
        published: pipeline.published.clone(),
        leader: kubernetes.leader.clone(),
        name: settings.pod_name.clone(),
        asker,
        replicas: counted,
        reporting: fetch::reporting(registry),
    };
    tasks.spawn("other replicas", fetcher.run());
    Ok(EmbeddedSource::new(receiver, Some(others)))
}
