//! Refuses pods that must not run in the mesh as written, each with the reason for its owner.
//!
//! `check` reads the pod without what injection adds. Changes nothing.

use serde_json::Value;
use smidge_crds::labels::{INIT_CONTAINER, PROXY_CONTAINER};
use smidge_xds::mesh::proxy;

use super::{
    VOLUME, all_containers, listed, name_of,
    user::{given, user},
};
use crate::redirect::{PROXY_GROUP, SHARED_USER};

/// Returns the first problem of the pod.
pub(super) fn check(pod: &Value) -> Result<(), String> {
    if !pod.get("spec").is_some_and(Value::is_object) {
        return Err("the pod has no spec".to_owned());
    }
    if listed(pod, "volumes").any(|volume| name_of(volume) == VOLUME) {
        return Err(format!("volume {VOLUME:?} has the name of the proxy's own: rename it"));
    }
    let pod_user = user(pod.get("spec"));
    groups(pod.get("spec"), "the pod")?;
    for container in all_containers(pod) {
        let name = name_of(container);
        if [INIT_CONTAINER, PROXY_CONTAINER].contains(&name) {
            return Err(format!("container {name:?} has the name of the proxy's own: rename it"));
        }
        let user = user(Some(container)).or(pod_user);
        apart(container, user, SHARED_USER)?;
        if let Some(port) = own_port(container) {
            return Err(format!(
                "container {name:?} has the port {port}, which is the proxy's: choose another"
            ));
        }
    }
    Ok(())
}

/// Refuses labels and annotations that are no text, as the API server does: YAML reads `9000` and `true` as a number and
/// a boolean.
pub(super) fn texts(object: &Value) -> Result<(), String> {
    for map in ["labels", "annotations"] {
        let entries =
            object.get("metadata").and_then(|metadata| metadata.get(map)).and_then(Value::as_object);
        for (name, value) in entries.into_iter().flatten() {
            let found = match value {
                Value::String(_) | Value::Null => continue,
                Value::Number(_) => "a number",
                Value::Bool(_) => "a boolean",
                Value::Array(_) => "a list",
                Value::Object(_) => "an object",
            };
            return Err(format!(
                "metadata.{map}: {name} is {found}, {value}: expected text; hint: put it in \
                 quotation marks"
            ));
        }
    }
    Ok(())
}

/// Returns the first problem of the ephemeral containers of an injected pod. Those of other pods are not restricted.
pub(super) fn ephemeral(pod: &Value) -> Result<(), String> {
    let has_proxy = has_proxy(pod);
    let proxy = given(pod).unwrap_or(SHARED_USER);
    let pod_user = user(pod.get("spec"));
    listed(pod, "ephemeralContainers")
        .filter(|_| has_proxy)
        .try_for_each(|container| apart(container, user(Some(container)).or(pod_user), proxy))
}

/// Returns true if a pod has a proxy.
pub(super) fn has_proxy(pod: &Value) -> bool {
    listed(pod, "initContainers").any(|container| name_of(container) == PROXY_CONTAINER)
}

/// Checks that a container that runs as `user` has neither the proxy's user nor its group nor its volume.
fn apart(container: &Value, user: Option<i64>, proxy: u32) -> Result<(), String> {
    let name = name_of(container);
    if user.is_some_and(|user| [proxy, SHARED_USER].map(i64::from).contains(&user)) {
        return Err(format!(
            "container {name:?} runs as user {}, which is the proxy's and would pass by the mesh: \
             choose another runAsUser",
            user.unwrap_or_default()
        ));
    }
    groups(Some(container), &format!("container {name:?}"))?;
    let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    if mounts.into_iter().any(|mount| name_of(mount) == VOLUME) {
        return Err(format!(
            "container {name:?} mounts volume {VOLUME:?}, which holds the proxy's credentials"
        ));
    }
    Ok(())
}

/// Refuses every way to get the group of the proxies. A group that is only supplementary becomes the process's own in a
/// program with the set-group-ID bit.
fn groups(of: Option<&Value>, whose: &str) -> Result<(), String> {
    let Some(context) = of.and_then(|of| of.get("securityContext")) else { return Ok(()) };
    let is_group = |value: &Value| value.as_i64() == Some(i64::from(PROXY_GROUP));
    let single =
        ["runAsGroup", "fsGroup"].into_iter().find(|field| context.get(*field).is_some_and(is_group));
    let mut listed = context.get("supplementalGroups").and_then(Value::as_array).into_iter().flatten();
    match single.or_else(|| listed.any(is_group).then_some("supplementalGroups")) {
        None => Ok(()),
        Some(field) => Err(format!(
            "{whose} has the group {PROXY_GROUP} by securityContext.{field}, which is the proxies' and a step \
             past the mesh: choose another group"
        )),
    }
}

/// Returns a port of the container that the proxy listens on, if there is one.
fn own_port(container: &Value) -> Option<u64> {
    let own = proxy::PORTS.map(u64::from);
    let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
    ports
        .filter(|port| port.get("protocol").and_then(Value::as_str).unwrap_or("TCP") == "TCP")
        .filter_map(|port| port.get("containerPort")?.as_u64())
        .find(|port| own.contains(port))
}
