//! Publishes the settings of injected pods in a ConfigMap, which `smidge inject` reads.
//!
//! Applies the text by server-side apply at the start and whenever the settings change, and tries again until it
//! succeeds. The chart makes the object and decides who may read it; `injector::published` makes the text.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::injector::{
    Settings,
    published::{CONFIG_MAP, KEY, Published},
};

/// Field manager of the text.
const MANAGER: &str = "smidge-injection";
/// Delay after an apply that failed.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Publishes the settings until their sender is dropped.
pub async fn run(client: Client, namespace: String, mut settings: watch::Receiver<Arc<Settings>>) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let parameters = PatchParams::apply(MANAGER).force();
    loop {
        let text = Published::of(&settings.borrow_and_update()).to_text();
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}, "data": {KEY: text},
        });
        let failed = match api.patch(CONFIG_MAP, &parameters, &Patch::Apply(object)).await {
            Ok(_) => {
                info!(%namespace, name = CONFIG_MAP, "settings of injected pods published");
                false
            }
            Err(error) => {
                warn!(%error, %namespace, name = CONFIG_MAP, "failed to publish the settings of injected pods");
                true
            }
        };
        tokio::select! {
            changed = settings.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_DELAY), if failed => {}
        }
    }
}
