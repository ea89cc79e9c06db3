//! Pods that must not run in the mesh as they are, each with the reason in words for its owner.
//!
//! Sees the pod without what injection adds. Changes nothing.

use serde_json::Value;
use smidge_xds::bootstrap::{READINESS_PORT, STATS_PORT};

use super::{INIT_CONTAINER, PROXY_CONTAINER, VOLUME, all_containers, listed, name_of};
use crate::redirect::{INBOUND_PORT, OUTBOUND_PORT, PROXY_UID};

/// The first thing that is wrong with the pod.
pub(super) fn check(pod: &Value) -> Result<(), String> {
    if !pod.get("spec").is_some_and(Value::is_object) {
        return Err("the pod has no spec".to_owned());
    }
    if listed(pod, "volumes").any(|volume| name_of(volume) == VOLUME) {
        return Err(format!("volume {VOLUME:?} has the name of the proxy's own: rename it"));
    }
    let pod_user = user(pod.get("spec"));
    for container in all_containers(pod) {
        let name = name_of(container);
        if [INIT_CONTAINER, PROXY_CONTAINER].contains(&name) {
            return Err(format!("container {name:?} has the name of the proxy's own: rename it"));
        }
        if user(Some(container)).or(pod_user) == Some(i64::from(PROXY_UID)) {
            return Err(format!(
                "container {name:?} runs as user {PROXY_UID}, which is the proxy's and would pass by the mesh: \
                 choose another runAsUser"
            ));
        }
        let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
        if mounts.into_iter().any(|mount| name_of(mount) == VOLUME) {
            return Err(format!(
                "container {name:?} mounts volume {VOLUME:?}, which holds the proxy's credentials"
            ));
        }
        if let Some(port) = own_port(container) {
            return Err(format!(
                "container {name:?} has the port {port}, which is the proxy's: choose another"
            ));
        }
    }
    Ok(())
}

fn user(of: Option<&Value>) -> Option<i64> {
    of?.get("securityContext")?.get("runAsUser")?.as_i64()
}

/// A port of the container that the proxy listens on.
fn own_port(container: &Value) -> Option<u64> {
    let own = [OUTBOUND_PORT, INBOUND_PORT, READINESS_PORT, STATS_PORT].map(u64::from);
    let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
    ports
        .filter(|port| port.get("protocol").and_then(Value::as_str).unwrap_or("TCP") == "TCP")
        .filter_map(|port| port.get("containerPort")?.as_u64())
        .find(|port| own.contains(port))
}
