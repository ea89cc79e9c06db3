//! Admission review by which an API server requests the injection of a pod of a usual size.
//!
//! Sent by `inject` to the webhook, and compiled into the operator's benches, so that both measure the same pod.

use serde_json::{Value, json};

/// Builds the review of a pod with two containers with probes, ports and volumes.
pub fn review() -> Value {
    let container = |name: &str, port: u16| {
        json!({
            "name": name, "image": format!("registry.example/{name}:1.2.3"),
            "ports": [{"name": "http", "containerPort": port}],
            "env": (0..20).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "some value"})).collect::<Vec<_>>(),
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
            "livenessProbe": {"tcpSocket": {"port": port}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        })
    };
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": "bench-0",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"generateName": "shop-7d9c-", "namespace": "bench-0", "labels": {"app": "shop"}},
                "spec": {
                    "serviceAccountName": "shop",
                    "containers": [container("app", 8080), container("log", 9000)],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                },
            },
        },
    })
}
