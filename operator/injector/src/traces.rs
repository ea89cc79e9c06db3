//! Turns a pod into the attributes that OpenTelemetry's environment variable has for the spans of its proxy.
//!
//! Called by `containers`. Names the workload as its owner is known at injection; `lower` does the same for pods that exist.

use serde_json::Value;

/// Environment variable of OpenTelemetry that names the resource that sends spans.
pub(super) const VARIABLE: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// Labels with the hash that ends the name of a pod's owner, where a workload creates that owner.
const HASHES: [&str; 2] = ["pod-template-hash", "rollouts-pod-template-hash"];

/// Returns the attributes. Kubernetes replaces `$(NAME)`. `service.name` is that of the workload; that of the pod without an
/// owner.
pub(super) fn attributes(pod: &Value) -> String {
    let service = workload(pod).unwrap_or("$(POD_NAME)");
    format!(
        "service.name={service},service.namespace=$(POD_NAMESPACE),k8s.namespace.name=$(POD_NAMESPACE),\
         k8s.pod.name=$(POD_NAME),k8s.pod.uid=$(POD_UID)"
    )
}

fn workload(pod: &Value) -> Option<&str> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?;
    let name = owner.get("name")?.as_str()?;
    let label = |name| pod.pointer("/metadata/labels")?.get(name)?.as_str();
    let created =
        HASHES.into_iter().filter_map(label).find_map(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
    // The value has commas and equals signs of its own, and Kubernetes would replace a reference.
    let is_name = |text: &&str| {
        text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    Some(created.unwrap_or(name)).filter(is_name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(pod: &Value) -> String {
        attributes(pod).split(',').next().unwrap().replace("service.name=", "")
    }

    #[test]
    fn a_service_is_named_for_its_workload() {
        let owned = |name: &str, labels: Value| {
            json!({"metadata": {"labels": labels, "ownerReferences": [
                {"kind": "Other", "name": "no"}, {"kind": "K", "name": name, "controller": true},
            ]}})
        };
        assert_eq!(service(&owned("web-7d9f", json!({"pod-template-hash": "7d9f"}))), "web");
        assert_eq!(service(&owned("web-7d9f", json!({"rollouts-pod-template-hash": "7d9f"}))), "web");
        assert_eq!(service(&owned("db", json!({}))), "db");
        assert_eq!(service(&owned("db", json!({"pod-template-hash": "7d9f"}))), "db");
        assert_eq!(service(&json!({"metadata": {"name": "x"}})), "$(POD_NAME)");
        for made_up in ["a,service.name=b", "$(POD_IP)", "", "a=b"] {
            assert_eq!(service(&owned(made_up, json!({}))), "$(POD_NAME)", "{made_up}");
        }
    }
}
