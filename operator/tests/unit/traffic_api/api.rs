//! Answers with the objects of the API server and the traffic of a source.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use serde_json::json;
use smidge_traffic_metrics::traffic::SourceError;

use super::{BASE, Port, deployments};

#[tokio::test]
async fn objects_have_their_traffic_or_zeros() {
    let port = Port::open().await;
    let (status, list) = port.ask(&format!("{BASE}/namespaces/shop/deployments"), &[]).await;
    assert_eq!((status, &list["kind"]), (200, &json!("TrafficMetricsList")));
    let counts: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| &item["metrics"][3]["value"]).collect();
    assert_eq!(counts, ["0", "7"]);
    assert_eq!(list["items"][1]["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(list["items"][1]["metadata"]["creationTimestamp"], "2026-11-01T08:00:00Z");

    let (status, one) = port.ask(&format!("{BASE}/namespaces/shop/deployments/web"), &[]).await;
    assert_eq!(
        (status, &one["kind"], &one["metrics"][3]["value"]),
        (200, &json!("TrafficMetrics"), &json!("7"))
    );
    let (status, list) = port.ask(&format!("{BASE}/namespaces/shop/deployments/web/edges"), &[]).await;
    assert_eq!((status, &list["items"][0]["edge"]["resource"]["name"]), (200, &json!("gateway")));
    for path in ["namespaces/shop/deployments/none", "namespaces/shop/deployments/none/edges"] {
        let (status, document) = port.ask(&format!("{BASE}/{path}"), &[]).await;
        assert_eq!((status, &document["reason"]), (404, &json!("NotFound")), "{path}");
        assert_eq!(document["details"]["name"], "none");
    }
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let (status, table) = port.ask(&format!("{BASE}/deployments"), &table).await;
    assert_eq!(
        (status, &table["kind"], &table["rows"][1]["cells"][0]),
        (200, &json!("Table"), &json!("web"))
    );
}

#[tokio::test]
async fn a_list_is_read_in_parts_and_the_selector_is_the_api_servers() {
    let port = Port::open().await;
    let path = "/apis/apps/v1/namespaces/shop/deployments";
    let beginning = deployments(&["idle"], &json!({"continue": "next", "remainingItemCount": 1}));
    port.objects.documents.lock().unwrap().insert(path.to_owned(), beginning);
    let query = "labelSelector=app%3Dweb&continue=token&limit=9999";
    let (status, list) = port.ask(&format!("{BASE}/namespaces/shop/deployments?{query}"), &[]).await;
    assert_eq!(status, 200);
    assert_eq!(list["metadata"]["continue"], "next");
    assert_eq!(list["metadata"]["remainingItemCount"], 1);
    let reads = port.objects.document_reads.lock().unwrap();
    let read = reads.last().unwrap();
    for part in ["labelSelector=app%3Dweb", "continue=token", "limit=500"] {
        assert!(read.contains(part), "{read}");
    }
}

#[tokio::test]
async fn a_split_is_a_list_of_its_backends() {
    let port = Port::open().await;
    let path = "/apis/split.smi-spec.io/v1alpha4/namespaces/shop/trafficsplits/canary";
    let split = json!({
        "apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit",
        "metadata": {"name": "canary", "namespace": "shop"},
        "spec": {"service": "web.shop.svc.cluster.local", "backends": [
            {"service": "web-v1", "weight": 90}, {"service": "web-v2.shop", "weight": "ten"}, {"weight": 1}, 3,
        ]},
    });
    port.objects.documents.lock().unwrap().insert(path.to_owned(), split);
    let (status, list) = port.ask(&format!("{BASE}/namespaces/shop/trafficsplits/canary"), &[]).await;
    assert_eq!((status, &list["kind"]), (200, &json!("TrafficMetricsList")));
    let backends: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| &item["backend"]).collect();
    assert_eq!(
        backends,
        [
            &json!({"apex": "web", "name": "web-v1", "weight": 90}),
            &json!({"apex": "web", "name": "web-v2", "weight": 0}),
        ]
    );
}

#[tokio::test]
async fn errors_of_a_named_source_reach_users() {
    let port = Port::open().await;
    port.traffic.send_replace(None);
    let path = format!("{BASE}/namespaces/shop/deployments");
    let (source_name, about) = ("Prometheus".to_owned(), " at prometheus.internal:9090 (latency)".to_owned());
    let reason = "answered 422: execution: too many samples".to_owned();
    let late = SourceError::TimedOut {
        source_name: source_name.clone(),
        about: about.clone(),
        limit: Duration::from_secs(8),
    };
    for (failure, code, message) in [
        (late, 503, "the traffic could not be read: Prometheus did not answer within 8s"),
        (
            SourceError::Failed { source_name: source_name.clone(), about: about.clone(), reason },
            503,
            "the traffic could not be read: Prometheus answered 422: execution: too many samples",
        ),
        (
            SourceError::Invalid { source_name, about, reason: "NaN".to_owned() },
            503,
            "the traffic could not be read: the answer of Prometheus cannot be read: NaN",
        ),
        (SourceError::Unsupported("set a".to_owned()), 501, "set a"),
    ] {
        port.failure.send_replace(failure);
        let (status, document) = port.ask(&path, &[]).await;
        assert_eq!((status, &document["message"], &document["code"]), (code, &json!(message), &json!(code)));
        assert_eq!(document["details"]["retryAfterSeconds"].is_null(), code == 501);
    }
}

#[tokio::test]
async fn errors_have_nothing_of_what_is_behind_the_server() {
    let port = Port::open().await;
    port.traffic.send_replace(None);
    let path = format!("{BASE}/namespaces/shop/deployments");
    let (status, document) = port.ask(&path, &[]).await;
    assert_eq!((status, &document["reason"]), (503, &json!("ServiceUnavailable")));
    assert!(!document.to_string().contains("10.0.0.7"), "{document}");
    assert_eq!(document["details"]["retryAfterSeconds"], 1);
    port.traffic.send_replace(Some(super::calls(1)));
    port.objects.documents.lock().unwrap().clear();
    let (status, document) = port.ask(&path, &[]).await;
    assert_eq!(status, 503, "{document}");
    port.objects.down.store(true, SeqCst);
    let (status, document) = port.ask(&path, &[]).await;
    assert!(status >= 500 && !document.to_string().contains("127.0.0.1"), "{document}");
    port.objects.down.store(false, SeqCst);
    for (path, code) in [("configmaps", 404), ("pods?window=1s", 400), ("pods/web/log", 404)] {
        assert_eq!(port.ask(&format!("{BASE}/{path}"), &[]).await.0, code, "{path}");
    }
    let yaml = [("accept", "application/yaml")];
    assert_eq!(port.ask(&path, &yaml).await.0, 406);
}

#[tokio::test]
async fn answers_in_progress_are_bounded() {
    let port = Port::open().await;
    let path = format!("{BASE}/namespaces/shop/deployments");
    port.held.send_replace(true);
    let mut answers: FuturesUnordered<_> = (0..17).map(|_| port.ask(&path, &[])).collect();
    let (status, document) = answers.next().await.unwrap();
    assert_eq!((status, &document["reason"]), (429, &json!("TooManyRequests")));
    port.held.send_replace(false);
    let others: Vec<_> = answers.map(|(status, _)| status).collect().await;
    assert_eq!(others, [200; 16]);
}
