//! Starts the server that the API server calls, and keeps what it is called by.
//!
//! Called by `runtime` at the start.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::error;

use super::{Core, Error, Tasks, listen};
use crate::webhook;

/// The webhook configuration that the chart installs.
const INJECTOR: &str = "smidge-injector";

/// Injects proxies into pods.
pub(super) async fn webhooks(core: &Core, tasks: &mut Tasks) -> Result<(), Error> {
    let Core { settings, client, authorities, .. } = core;
    let listener = listen("webhooks", settings.webhook_listen).await?;
    let failed = |source| Error::Tls { server: "webhooks", source };
    let certificate = Arc::new(authorities.webhook_certificate(settings.service_names()).map_err(failed)?);
    let config = certificate.tls(&[b"h2", b"http/1.1"]).map_err(failed)?;
    tasks.spawn("webhook certificate", certificate.keep_fresh());
    let stop = tasks.stopping();
    let (injector, settings) = watch::channel(Arc::new(settings.injector(authorities.control_plane_roots())));
    tasks.spawn("webhooks", async move {
        // Held for as long as the server runs: the roots change when the authority's do, which nothing does yet.
        let _injector = injector;
        if let Err(error) = webhook::serve(listener, config, webhook::router(settings), stop).await {
            error!(%error, "the webhook server has ended");
        }
    });
    let (bundle, bundles) = watch::channel(authorities.webhook_ca_bundle());
    let client = client.clone();
    tasks.spawn("caBundle", async move {
        let _bundle = bundle;
        webhook::ca_bundle::keep(client, INJECTOR, bundles).await;
    });
    Ok(())
}
