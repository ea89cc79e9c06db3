//! Adds the pull secrets of the injected images to a pod.
//!
//! A Secret of each name must exist in the pod's namespace: nothing is copied there. Secrets that the pod names remain,
//! and one that was added is not removed when the pod is injected again.

use serde_json::{Value, json};

use super::{array, child, listed, name_of};

/// Adds the names that the pod does not have, and returns warnings for its owner. `is_template` is true for a pod that
/// the API server has not completed yet.
pub(super) fn add(pod: &mut Value, names: &[String], is_template: bool) -> Option<String> {
    let has_none = listed(pod, "imagePullSecrets").next().is_none();
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !listed(pod, "imagePullSecrets").any(|it| name_of(it) == **name))
        .collect();
    let spec = child(pod, "spec").filter(|_| !missing.is_empty())?;
    array(spec, "imagePullSecrets").extend(missing.into_iter().map(|name| json!({"name": name})));
    // The API server adds the secrets of the ServiceAccount to pods that name none, before it calls the webhook.
    (is_template && has_none).then(|| {
        "smidge: the pod now names imagePullSecrets, so the API server no longer adds those of its ServiceAccount; hint: \
         name them in the pod"
            .to_owned()
    })
}
