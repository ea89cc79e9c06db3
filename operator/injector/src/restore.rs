//! Removes from an injected pod everything that injection added, so that it can be injected again.
//!
//! Does not trust what a pod states about itself: containers and volume of our names are removed whatever is in them,
//! and a probe is restored only as a probe. Refuses nothing.

use serde_json::{Map, Value};
use smidge_crds::labels::{
    CNI_REDIRECT, INIT_CONTAINER, INJECTED, PROXY_CONTAINER, PROXY_VERSION, TERMINATION,
};

use super::{
    PROBES, TOKEN_SDS, VERSION, VOLUME, annotation, child, name_of, object,
    probes::{HANDLERS, KINDS, is_rewritten, probed_mut},
    termination,
};

/// Restores the pod to its form before injection, and keeps later changes.
pub(super) fn strip(pod: &mut Value) {
    let originals: Map<String, Value> =
        annotation(pod, PROBES).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    if let Some(spec) = child(pod, "spec") {
        remove_named(spec, "initContainers", &[INIT_CONTAINER, PROXY_CONTAINER]);
        remove_named(spec, "volumes", &[VOLUME]);
    }
    termination::remove(pod);
    for container in probed_mut(pod) {
        let name = name_of(container).to_owned();
        for kind in KINDS {
            let key = format!("{name}/{}", kind.name);
            let (Some(handler), Some(original)) = (kind.handler_mut(container), originals.get(&key)) else {
                continue;
            };
            if handler.get("httpGet").is_some_and(|get| is_rewritten(get, &key)) {
                handler.remove("httpGet");
                let parts = original.as_object().into_iter().flatten();
                handler.extend(
                    parts
                        .filter(|(name, _)| HANDLERS.contains(&name.as_str()))
                        .map(|(k, v)| (k.clone(), v.clone())),
                );
            }
        }
    }
    if let Some(annotations) = child(pod, "metadata").and_then(|metadata| object(metadata, "annotations")) {
        for name in [INJECTED, VERSION, PROXY_VERSION, TOKEN_SDS, PROBES, TERMINATION, CNI_REDIRECT] {
            annotations.remove(name);
        }
    }
}

fn remove_named(spec: &mut Map<String, Value>, list: &str, names: &[&str]) {
    if let Some(items) = spec.get_mut(list).and_then(Value::as_array_mut) {
        items.retain(|item| !names.contains(&name_of(item)));
    }
}
