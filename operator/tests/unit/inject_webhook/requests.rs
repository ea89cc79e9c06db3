//! Counts of the requests of webhooks, by what they were and how they ended.

use serde_json::{Value, json};
use smidge::webhook::metrics::{Metrics, Outcome};

use super::{a_pod, a_review, post, serve};

fn split(weight: i64) -> Value {
    json!({
        "apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": {"name": "a"},
        "spec": {"service": "a", "backends": [{"service": "b", "weight": weight}]},
    })
}

fn review(operation: &str, object: &Value) -> Vec<u8> {
    let mut review = a_review(object);
    review["request"]["operation"] = json!(operation);
    if object["kind"] == "TrafficSplit" {
        review["request"]["kind"] =
            json!({"group": "split.smi-spec.io", "version": "v1alpha4", "kind": "TrafficSplit"});
    }
    review.to_string().into_bytes()
}

fn conversion(object: &Value) -> Vec<u8> {
    let request = json!({"uid": "u", "desiredAPIVersion": "split.smi-spec.io/v1alpha2", "objects": [object]});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "request": request}).to_string().into_bytes()
}

/// Returns all that was counted.
fn counted(metrics: &Metrics) -> Vec<(&'static str, &'static str, &'static str, u64)> {
    let webhooks = ["inject", "validate", "convert"];
    let operations = ["CREATE", "UPDATE", "DELETE", "CONVERT", "unknown"];
    let pairs = webhooks.into_iter().flat_map(|webhook| operations.map(|operation| (webhook, operation)));
    let all = pairs.flat_map(|(webhook, operation)| {
        Outcome::ALL.map(|outcome| {
            (webhook, operation, outcome.as_str(), metrics.requests(webhook, operation, outcome))
        })
    });
    all.filter(|(.., count)| *count > 0).collect()
}

#[tokio::test]
async fn requests_count_by_webhook_operation_and_outcome() {
    let served = serve().await;
    for _ in 0..2 {
        post(&served, "/inject", &review("CREATE", &a_pod())).await;
    }
    post(&served, "/validate", &review("CREATE", &split(1))).await;
    post(&served, "/validate", &review("UPDATE", &split(-1))).await;
    post(&served, "/convert", &conversion(&split(1))).await;
    post(&served, "/convert", &conversion(&json!("nonsense"))).await;
    post(&served, "/convert", b"nonsense").await;
    let wanted = [
        ("inject", "CREATE", "allowed", 2),
        ("validate", "CREATE", "allowed", 1),
        ("validate", "UPDATE", "denied", 1),
        ("convert", "CONVERT", "allowed", 1),
        ("convert", "CONVERT", "denied", 1),
        ("convert", "CONVERT", "invalid", 1),
    ];
    assert_eq!(counted(&served.requests), wanted);
}

#[tokio::test]
async fn values_of_labels_are_not_a_callers() {
    let served = serve().await;
    for operation in ["CREATE\"} 1", "PATCH", "create", ""] {
        post(&served, "/inject", &review(operation, &a_pod())).await;
    }
    post(&served, "/else", b"{}").await;
    post(&served, "/inject", &vec![b' '; 9 << 20]).await;
    let wanted = [("inject", "unknown", "allowed", 4), ("inject", "unknown", "invalid", 1)];
    assert_eq!(counted(&served.requests), wanted);
}
