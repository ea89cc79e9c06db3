//! Starts the server of TrafficMetrics, what it needs to authenticate the API server, and the CA bundles by which the
//! API server verifies it.
//!
//! Called by `runtime::kubernetes` at the start, with the source of the figures.

use std::sync::Arc;

use smidge_traffic_metrics::{
    api::{GROUP, Version},
    traffic::TrafficSource,
};
use tokio::sync::watch;
use tracing::error;

use super::{Core, Error, Tasks, kubernetes::Kubernetes, listen};
use crate::{
    https,
    traffic_api::{self, Parts, configuration, front_proxy::Trusted, handshake::AnyCertificate},
    webhook::ca_bundle::{self, Holder},
};

/// Service that the API server calls.
const SERVICE: &str = "smidge-traffic-api";

/// Starts the server, if it has an address.
pub(super) fn traffic_api<S: TrafficSource + 'static>(
    core: &Core,
    kubernetes: &Kubernetes,
    source: S,
    tasks: &mut Tasks,
) -> Result<(), Error> {
    let Core { settings, authorities, clock } = core;
    let Some(address) = settings.traffic_api_listen else { return Ok(()) };
    let listener = listen("TrafficMetrics", address)?;
    let failed = |source| Error::Tls { server: "TrafficMetrics", source };
    let certificate = Arc::new(authorities.webhook_certificate(settings.names_of(SERVICE)).map_err(failed)?);
    let tls = certificate.tls_asking(&[b"h2", b"http/1.1"], AnyCertificate::verifier()).map_err(failed)?;
    tasks.spawn("TrafficMetrics certificate", certificate.run());
    let (trusting, trusted) = watch::channel(Arc::new(Trusted::default()));
    let client = kubernetes.client.clone();
    tasks.spawn("front proxies", configuration::run(client.clone(), trusting));
    let router = traffic_api::router(Parts {
        source,
        client: client.clone(),
        clock: clock.clone(),
        trusted,
        watch_period: traffic_api::WATCH_PERIOD,
    });
    let stop = tasks.stopping();
    tasks.spawn("TrafficMetrics", async move {
        if let Err(error) = https::serve(listener, tls, router, stop).await {
            error!(%error, "server of TrafficMetrics failed");
        }
    });
    let bundle = Arc::new(watch::Sender::new(authorities.webhook_ca_bundle()));
    for version in Version::ALL {
        let holder = Holder::ApiService {
            name: format!("{}.{GROUP}", version.name()),
            service: SERVICE.to_owned(),
            namespace: settings.system_namespace.clone(),
        };
        let (client, bundle) = (client.clone(), Arc::clone(&bundle));
        tasks.spawn("caBundle", async move { ca_bundle::run(client, holder, bundle.subscribe()).await });
    }
    Ok(())
}
