//! Keeps the front proxies that are trusted equal to what the API server publishes.
//!
//! Watches the ConfigMap `kube-system/extension-apiserver-authentication`, which kube-apiserver keeps. While the API
//! server cannot be reached, the last configuration is in effect; if the ConfigMap is missing or invalid, no proxy is
//! trusted.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::front_proxy::Trusted;

/// Namespace of the ConfigMap.
const NAMESPACE: &str = "kube-system";
/// Name of the ConfigMap.
const NAME: &str = "extension-apiserver-authentication";

/// Keeps `trusted` current. Never returns.
pub async fn run(client: Client, trusted: watch::Sender<Arc<Trusted>>) {
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut is_found = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => is_found = false,
            Ok(watcher::Event::InitApply(map) | watcher::Event::Apply(map)) => {
                is_found = true;
                apply(&map, &trusted);
            }
            Ok(watcher::Event::InitDone) if is_found => {}
            Ok(watcher::Event::InitDone | watcher::Event::Delete(_)) => {
                error!(
                    "ConfigMap {NAMESPACE}/{NAME} is missing: TrafficMetrics are not served (hint: kube-apiserver needs \
                     --requestheader-client-ca-file)"
                );
                trusted.send_replace(Arc::default());
            }
            Err(error) => warn!(%error, "failed to watch ConfigMap {NAMESPACE}/{NAME}"),
        }
    }
}

fn apply(map: &ConfigMap, trusted: &watch::Sender<Arc<Trusted>>) {
    let data = map.data.clone().unwrap_or_default();
    let next = Trusted::parse(&data).unwrap_or_else(|error| {
        error!(%error, "invalid ConfigMap {NAMESPACE}/{NAME}: TrafficMetrics are not served");
        Trusted::default()
    });
    info!("front proxies of the API server read");
    trusted.send_replace(Arc::new(next));
}
