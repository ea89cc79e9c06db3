//! Removes a taint from nodes on which the plugin is ready, so that a node that joins with it starts no pod before.
//!
//! Runs in each replica of the operator, if it is set up so; the API server applies the first removal. Follows the pods of
//! the DaemonSet, and reads a node when its pod becomes ready. Adds no taint, and changes nothing else of a node.

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{info, warn};

/// Key of the taint, of any value and effect.
pub const TAINT: &str = "smidge.mesh/cni-not-ready";
/// Interval at which nodes are tried again whose taint could not be removed.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Time limit for reading a node and removing its taint.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Removes the taint of each node on which a pod of the DaemonSet is ready, forever.
pub async fn run(client: Client, namespace: String, daemon_set: String) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let nodes: Api<Node> = Api::all(client);
    let config = watcher::Config::default().labels(&format!("app.kubernetes.io/name={daemon_set}"));
    let mut events = watcher::watcher(pods, config).default_backoff().boxed();
    let mut waiting = BTreeSet::new();
    loop {
        match timeout(RETRY_INTERVAL, events.next()).await {
            Ok(None) => return,
            Ok(Some(Ok(Event::Apply(pod) | Event::InitApply(pod)))) => {
                waiting.extend(node_of_ready(&pod, &daemon_set));
            }
            Ok(Some(Err(error))) => {
                warn!(%error, "failed to watch the pods of DaemonSet {namespace}/{daemon_set}");
            }
            Ok(Some(Ok(_))) | Err(_) => {}
        }
        let mut failed = BTreeSet::new();
        for name in std::mem::take(&mut waiting) {
            match timeout(REQUEST_TIMEOUT, remove(&nodes, &name)).await {
                Ok(Ok(true)) => info!(node = name, "taint {TAINT} removed: the CNI plugin is ready"),
                Ok(Ok(false)) => {}
                // The pod outlives its node for a moment.
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
                Ok(Err(error)) => {
                    warn!(node = name, %error, "failed to remove taint {TAINT}");
                    failed.insert(name);
                }
                Err(_) => {
                    let limit = REQUEST_TIMEOUT.as_secs();
                    warn!(node = name, "failed to remove taint {TAINT}: no answer in {limit} s");
                    failed.insert(name);
                }
            }
        }
        waiting = failed;
    }
}

/// Returns the node of a pod of the DaemonSet that is ready.
fn node_of_ready(pod: &Pod, daemon_set: &str) -> Option<String> {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let is_of = owners.any(|owner| owner.kind == "DaemonSet" && owner.name == daemon_set);
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let node = pod.spec.as_ref()?.node_name.clone();
    node.filter(|_| is_of && is_ready && pod.metadata.deletion_timestamp.is_none())
}

/// Removes the taint from a node; returns false if it has none.
async fn remove(nodes: &Api<Node>, name: &str) -> kube::Result<bool> {
    let Some(patch) = removal(&nodes.get(name).await?) else { return Ok(false) };
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(true)
}

/// Returns the change of a node that removes the taint; `None` if it has none. The change holds for this version of the
/// node: a taint that is added meanwhile stays.
fn removal(node: &Node) -> Option<Value> {
    let taints = node.spec.as_ref()?.taints.as_ref()?;
    let kept: Vec<_> = taints.iter().filter(|taint| taint.key != TAINT).collect();
    (kept.len() < taints.len()).then(
        || json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": kept}}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(taints: &Value) -> Node {
        serde_json::from_value(json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": taints}}))
            .unwrap()
    }

    #[test]
    fn only_the_taint_of_the_plugin_is_removed() {
        let other = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"});
        let ours = |effect: &str| json!({"key": TAINT, "value": "true", "effect": effect});
        assert_eq!(removal(&node(&json!([other]))), None);
        assert_eq!(removal(&node(&json!([]))), None);
        let patch = removal(&node(&json!([ours("NoSchedule"), other, ours("NoExecute")]))).unwrap();
        assert_eq!(patch, json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": [other]}}));
    }

    #[test]
    fn a_pod_counts_while_it_is_ready_and_of_the_daemon_set() {
        let pod = |owner: &str, ready: &str, deleted: Option<&str>| -> Pod {
            serde_json::from_value(json!({
                "metadata": {
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": owner, "uid": "u"}],
                    "deletionTimestamp": deleted,
                },
                "spec": {"nodeName": "n", "containers": []},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap()
        };
        let of = |pod: &Pod| node_of_ready(pod, "smidge-cni");
        assert_eq!(of(&pod("smidge-cni", "True", None)).as_deref(), Some("n"));
        assert_eq!(of(&pod("smidge-cni", "False", None)), None);
        assert_eq!(of(&pod("other", "True", None)), None);
        assert_eq!(of(&pod("smidge-cni", "True", Some("2026-01-01T00:00:00Z"))), None);
        assert_eq!(of(&Pod::default()), None);
    }
}
