//! Keeps the `caBundle` of whatever the API server calls us by what the serving authority says.
//!
//! Watches the one object and applies the bundle, by server-side apply as a manager of its own, whenever the two differ:
//! at the start, after a rotation, after somebody else's edit. Does not create the object (the chart does), and touches
//! no other field of it.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use k8s_openapi::{
    api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

/// The field manager of the bundle.
const MANAGER: &str = "smidge-ca-bundle";
/// How long to wait after an apply that failed, unless the object changes before.
const AGAIN: Duration = Duration::from_secs(2);

/// An object that names a webhook of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The MutatingWebhookConfiguration of this name.
    Mutating(String),
    /// The ValidatingWebhookConfiguration of this name.
    Validating(String),
    /// The definition of this name, as long as it converts by the Service `service` in `namespace`. Another mesh may
    /// own the definition: its trust is not ours to replace.
    Definition {
        /// Full name of the definition.
        name: String,
        /// The Service of our webhooks.
        service: String,
        /// The namespace of that Service.
        namespace: String,
    },
}

/// Keeps the bundle of `holder` until the bundle's sender is gone. `bundle` holds the PEM of every root that the
/// server's certificate may be under; empty: not known yet.
pub async fn keep(client: Client, holder: Holder, mut bundle: watch::Receiver<String>) {
    let name = holder.name();
    let api: Api<DynamicObject> = Api::all_with(client, &holder.resource());
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
                    warn!(%error, %holder, "failed to watch");
                    continue;
                }
                None => return,
            },
            () = tokio::time::sleep(AGAIN), if again => {}
        }
        let pem = bundle.borrow_and_update().clone();
        let Some(patch) = current.as_ref().and_then(|object| holder.drift(&object.data, &pem)) else {
            again = false;
            continue;
        };
        match api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await {
            Ok(object) => {
                info!(%holder, "CA bundle applied");
                current = Some(object);
                again = false;
            }
            Err(error) => {
                warn!(%error, %holder, "failed to apply CA bundle");
                again = true;
            }
        }
    }
}

impl Holder {
    fn name(&self) -> &str {
        match self {
            Self::Mutating(name) | Self::Validating(name) | Self::Definition { name, .. } => name,
        }
    }

    fn resource(&self) -> ApiResource {
        match self {
            Self::Mutating(_) => ApiResource::erase::<MutatingWebhookConfiguration>(&()),
            Self::Validating(_) => ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
            Self::Definition { .. } => ApiResource::erase::<CustomResourceDefinition>(&()),
        }
    }

    /// What to apply so that `object`, without its type and metadata, has the bundle everywhere; none if it has, if the
    /// bundle is empty, or if nothing in it is ours.
    pub fn drift(&self, object: &Value, pem: &str) -> Option<Value> {
        if pem.is_empty() {
            return None;
        }
        let bundle = STANDARD.encode(pem);
        let (field, value) = match self {
            Self::Mutating(_) | Self::Validating(_) => ("webhooks", of_webhooks(object, &bundle)?),
            Self::Definition { service, namespace, .. } => {
                ("spec", of_definition(object, service, namespace, &bundle)?)
            }
        };
        let ApiResource { api_version, kind, .. } = self.resource();
        Some(json!({
            "apiVersion": api_version, "kind": kind, "metadata": {"name": self.name()}, field: value,
        }))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource().kind, self.name())
    }
}

fn is_fine(client_config: Option<&Value>, bundle: &str) -> bool {
    client_config.and_then(|config| config.get("caBundle")).is_some_and(|found| found == bundle)
}

/// All of them: what a manager leaves out of an apply it gives up.
fn of_webhooks(object: &Value, bundle: &str) -> Option<Value> {
    let webhooks = object.get("webhooks")?.as_array()?;
    if webhooks.iter().all(|webhook| is_fine(webhook.get("clientConfig"), bundle)) {
        return None;
    }
    let entries = webhooks
        .iter()
        .map(|webhook| json!({"name": webhook.get("name"), "clientConfig": {"caBundle": bundle}}))
        .collect();
    Some(Value::Array(entries))
}

/// Says the bundle alone. The strategy and the Service stay their manager's, who can then change them without us.
fn of_definition(object: &Value, service: &str, namespace: &str, bundle: &str) -> Option<Value> {
    let config = object.pointer("/spec/conversion/webhook/clientConfig");
    let called = config.and_then(|config| config.get("service"));
    let is = |field: &str, word: &str| {
        called.and_then(|called| called.get(field)).is_some_and(|found| found == word)
    };
    let is_ours = is("name", service) && is("namespace", namespace);
    (is_ours && !is_fine(config, bundle))
        .then(|| json!({"conversion": {"webhook": {"clientConfig": {"caBundle": bundle}}}}))
}
