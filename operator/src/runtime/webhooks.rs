//! Starts the server of the webhooks, and keeps the CA bundles by which the API server verifies it.
//!
//! Called by `runtime` at the start.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use smidge_crds::definitions;
use tokio::sync::watch;
use tracing::error;

use super::{Core, Error, Tasks, kubernetes::Kubernetes, listen, pipeline::Pipeline};
use crate::{
    https,
    injector::ProbeKey,
    publish_settings,
    webhook::{
        self, Views,
        ca_bundle::{self, Holder},
        callers::Callers,
        injection, metrics,
    },
};

/// Webhook configurations that the chart installs.
const INJECTOR: &str = "smidge-injector";
const VALIDATOR: &str = "smidge-validator";
/// Service that the API server calls. It includes pods that are not ready: the operator is ready when it has read its
/// lists, and the API server may need a conversion to answer them.
const SERVICE: &str = "smidge-webhook";

/// Starts the webhooks, which inject proxies into pods, and convert and validate the objects of the mesh.
pub(super) fn webhooks(
    core: &Core,
    (kubernetes, pipeline): (&Kubernetes, &Pipeline),
    callers: Option<Callers>,
    registry: &mut Registry,
    tasks: &mut Tasks,
) -> Result<(), Error> {
    let injections = injection::Metrics::register(registry.sub_registry_with_prefix("injector"));
    let requests = metrics::Metrics::register(registry.sub_registry_with_prefix("webhook"));
    let Core { settings, authorities, .. } = core;
    let client = &kubernetes.client;
    let listener = listen("webhooks", settings.webhook_listen)?;
    let failed = |source| Error::Tls { server: "webhooks", source };
    let names = settings.names_of(SERVICE);
    let certificate = Arc::new(authorities.webhook_certificate(names).map_err(failed)?);
    let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
    let config = match &callers {
        Some(callers) => certificate.tls_asking(alpn, callers.verifier()),
        None => certificate.tls(alpn),
    };
    let config = config.map_err(failed)?;
    tasks.spawn("webhook certificate", certificate.run());
    let stop = tasks.stopping();
    let probe_key = ProbeKey::new(authorities.probe_key());
    let (injector, injectors) =
        watch::channel(Arc::new(settings.injector(authorities.control_plane_roots(), probe_key)));
    let (cluster, namespace) = (client.clone(), settings.system_namespace.clone());
    tasks.spawn("injection settings", publish_settings::run(cluster, namespace, injectors.clone()));
    let views = Views {
        injector: injectors,
        clusters: pipeline.clusters.clone(),
        awaited: pipeline.awaited.clone(),
        injections,
        requests,
    };
    tasks.spawn("webhooks", async move {
        // Held for as long as the server runs: the roots would change with the authority's, which no code does yet.
        let _injector = injector;
        if let Err(error) = https::serve(listener, config, webhook::router(views, callers), stop).await {
            error!(%error, "webhook server failed");
        }
    });
    let bundle = Arc::new(watch::Sender::new(authorities.webhook_ca_bundle()));
    for holder in holders(&settings.system_namespace) {
        let (client, bundle) = (client.clone(), Arc::clone(&bundle));
        tasks.spawn("caBundle", async move {
            ca_bundle::run(client, holder, bundle.subscribe()).await;
        });
    }
    Ok(())
}

/// Returns every object that has the CA bundle of the webhooks.
fn holders(namespace: &str) -> Vec<Holder> {
    let definition =
        |name| Holder::Definition { name, service: SERVICE.to_owned(), namespace: namespace.to_owned() };
    // Tests ensure that the definitions can be generated; the two configurations do not depend on them.
    let definitions = definitions::all().unwrap_or_default();
    let names = definitions.into_iter().filter_map(|definition| definition.metadata.name);
    let configurations = [Holder::Mutating(INJECTOR.to_owned()), Holder::Validating(VALIDATOR.to_owned())];
    configurations.into_iter().chain(names.map(definition)).collect()
}
