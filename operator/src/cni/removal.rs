//! Finds out whether the plugin is being uninstalled, or its pod is only replaced or moved.
//!
//! Reads one object of the API server, once, when the pod is stopped. In doubt the plugin stays: pods outside of the mesh
//! start with it, and pods of the mesh wait for the agent instead of being refused. Changes nothing.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client};

/// Time limit for the API server. The kubelet ends the pod after 30 s.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns true if the DaemonSet is gone or is being deleted. One whose rights are gone as well has been uninstalled: the
/// chart's objects are removed together.
pub async fn is_uninstalled(namespace: &str, name: &str) -> bool {
    let read = async {
        let client = Client::try_default().await?;
        Api::<DaemonSet>::namespaced(client, namespace).get(name).await
    };
    match tokio::time::timeout(TIMEOUT, read).await {
        Ok(Ok(found)) => found.metadata.deletion_timestamp.is_some(),
        Ok(Err(kube::Error::Api(status))) => [401, 403, 404].contains(&status.code),
        Ok(Err(error)) => {
            eprintln!(
                "smidge: failed to read DaemonSet {namespace}/{name}, so the CNI plugin stays: {error}"
            );
            false
        }
        Err(_) => {
            eprintln!(
                "smidge: DaemonSet {namespace}/{name} could not be read within {} s, so the CNI plugin stays",
                TIMEOUT.as_secs()
            );
            false
        }
    }
}
