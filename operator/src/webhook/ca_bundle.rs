//! Keeps the `caBundle` of every object that refers to a webhook of the operator, or to its API of TrafficMetrics, equal
//! to that of the serving authority.
//!
//! Watches one object and applies the bundle, by server-side apply as a manager of its own, whenever the two differ: at
//! the start, after a rotation, after an edit by another manager. Does not create the object (the chart does), and
//! changes no other field of it.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use k8s_openapi::{
    api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

/// Field manager of the bundle.
const MANAGER: &str = "smidge-ca-bundle";
/// Delay after an apply that failed, unless the object changes before.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// An object that refers to a server of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The MutatingWebhookConfiguration of this name.
    Mutating(String),
    /// The ValidatingWebhookConfiguration of this name.
    Validating(String),
    /// The CustomResourceDefinition of this name, as long as it converts by the Service `service` in `namespace`.
    /// Another mesh may own the definition: its CA bundle must not be replaced.
    Definition {
        /// Full name of the definition.
        name: String,
        /// Service of the webhooks.
        service: String,
        /// Namespace of that Service.
        namespace: String,
    },
    /// The APIService of this name, as long as it refers to the Service `service` in `namespace`.
    ApiService {
        /// Name: version and group.
        name: String,
        /// Service of the API.
        service: String,
        /// Namespace of that Service.
        namespace: String,
    },
}

/// Keeps the bundle of `holder` until the bundle's sender is dropped. `bundle` has the PEM of every root that may have
/// issued the server's certificate; empty if not known yet.
pub async fn run(client: Client, holder: Holder, mut bundle: watch::Receiver<String>) {
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
            () = tokio::time::sleep(RETRY_DELAY), if again => {}
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
            Self::Mutating(name)
            | Self::Validating(name)
            | Self::Definition { name, .. }
            | Self::ApiService { name, .. } => name,
        }
    }

    fn resource(&self) -> ApiResource {
        match self {
            Self::Mutating(_) => ApiResource::erase::<MutatingWebhookConfiguration>(&()),
            Self::Validating(_) => ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
            Self::Definition { .. } => ApiResource::erase::<CustomResourceDefinition>(&()),
            Self::ApiService { .. } => ApiResource::erase::<APIService>(&()),
        }
    }

    /// Returns the patch to apply so that `object`, which is without its type and metadata, has the bundle everywhere;
    /// `None` if it has, if the bundle is empty, or if no part of it belongs to the operator.
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
            Self::ApiService { service, namespace, .. } => {
                ("spec", of_api_service(object, service, namespace, &bundle)?)
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

/// Returns the bundle for all webhooks: a manager gives up the fields that it leaves out of an apply.
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

/// Returns true if a reference to a Service is to this one.
fn is_to(called: Option<&Value>, service: &str, namespace: &str) -> bool {
    let is = |field: &str, word: &str| {
        called.and_then(|called| called.get(field)).is_some_and(|found| found == word)
    };
    is("name", service) && is("namespace", namespace)
}

/// Returns the bundle alone. The strategy and the Service remain with their manager, which can then change them
/// independently.
fn of_definition(object: &Value, service: &str, namespace: &str, bundle: &str) -> Option<Value> {
    let config = object.pointer("/spec/conversion/webhook/clientConfig");
    let is_ours = is_to(config.and_then(|config| config.get("service")), service, namespace);
    (is_ours && !is_fine(config, bundle))
        .then(|| json!({"conversion": {"webhook": {"clientConfig": {"caBundle": bundle}}}}))
}

/// Returns the bundle alone, as for a definition.
fn of_api_service(object: &Value, service: &str, namespace: &str, bundle: &str) -> Option<Value> {
    let spec = object.get("spec");
    let is_ours = is_to(spec.and_then(|spec| spec.get("service")), service, namespace);
    (is_ours && !is_fine(spec, bundle)).then(|| json!({"caBundle": bundle}))
}
