//! Keeps the `caBundle` of a webhook configuration what the serving authority says.
//!
//! Watches the one configuration and applies the bundle, by server-side apply as a manager of its own, whenever the two
//! differ: at the start, after a rotation, after somebody else's edit. Does not create the configuration (the chart
//! does), and touches no other field of it.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

/// The field manager of the bundle.
const MANAGER: &str = "smidge-ca-bundle";
/// How long to wait after an apply that failed, unless the configuration changes before.
const AGAIN: Duration = Duration::from_secs(2);

/// Keeps the bundle of the configuration `name` until the bundle's sender is gone. `bundle` holds the PEM of every root
/// that the server's certificate may be under; empty: not known yet.
pub async fn keep(client: Client, name: &str, mut bundle: watch::Receiver<String>) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut objects = watcher(api.clone(), config).default_backoff().applied_objects().boxed();
    let mut current = None;
    let mut again = false;
    loop {
        tokio::select! {
            changed = bundle.changed() => if changed.is_err() { return },
            event = objects.next() => match event {
                Some(Ok(object)) => current = Some(object),
                Some(Err(error)) => {
                    warn!(%error, name, "failed to watch the webhook configuration");
                    continue;
                }
                None => return,
            },
            () = tokio::time::sleep(AGAIN), if again => {}
        }
        let pem = bundle.borrow_and_update().clone();
        let Some(patch) = current.as_ref().and_then(|object| drift(object, &pem)) else {
            again = false;
            continue;
        };
        match api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await {
            Ok(object) => {
                info!(name, "the webhook configuration has the bundle of the serving authority");
                current = Some(object);
                again = false;
            }
            Err(error) => {
                warn!(%error, name, "failed to apply the bundle to the webhook configuration");
                again = true;
            }
        }
    }
}

/// What to apply so that every webhook of the configuration has the bundle; none if it has, or if the bundle is empty.
pub fn drift(object: &MutatingWebhookConfiguration, pem: &str) -> Option<Value> {
    let webhooks = object.webhooks.iter().flatten();
    let stale = |found: Option<&[u8]>| found != Some(pem.as_bytes());
    if pem.is_empty()
        || !webhooks
            .clone()
            .any(|webhook| stale(webhook.client_config.ca_bundle.as_ref().map(|bytes| &bytes.0[..])))
    {
        return None;
    }
    // All of them: what a manager leaves out of an apply it gives up.
    let entries: Vec<Value> = webhooks
        .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": STANDARD.encode(pem)}}))
        .collect();
    Some(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": object.metadata.name},
        "webhooks": entries,
    }))
}
