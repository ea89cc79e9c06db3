//! TrafficMetrics that are written: who may do that, what reaches the API server, and what comes back.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};
use smidge_crds::{config::MetricsPolicySpec, object::Kind as _};
use smidge_traffic_metrics::api::stored::{MAX_BODY, policy};

use super::{BASE, Port, read};

const POLICIES: &str = "/apis/smidge.mesh/v1alpha1/namespaces/shop/metricspolicies";

fn metrics() -> Value {
    json!({
        "apiVersion": "metrics.smi-spec.io/v1alpha2", "kind": "TrafficMetrics", "metadata": {"name": "web"},
        "resource": {"kind": "Deployment", "name": "web"},
    })
}

/// Has the API server keep a policy, and answer writes with it.
fn keep(port: &Port) {
    let kept = json!({
        "apiVersion": "smidge.mesh/v1alpha1", "kind": "MetricsPolicy",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "7"},
        "spec": {"target": {"kind": "Deployment", "name": "web"}},
    });
    let list = json!({
        "apiVersion": "smidge.mesh/v1alpha1", "kind": "MetricsPolicyList", "metadata": {"resourceVersion": "9"},
        "items": [kept],
    });
    let mut documents = port.objects.documents.lock().unwrap();
    documents.insert(format!("{POLICIES}/web"), kept);
    documents.insert(POLICIES.to_owned(), list);
}

impl Port {
    /// Sends a write of user `ann` as the API server does.
    async fn write(&self, method: &str, path: &str, content_type: &str, body: &str) -> (u16, Value) {
        let headers = [("x-remote-user", "ann"), ("content-type", content_type)];
        read(self.send_body(Some(self.api_server()), (method, path), &headers, body).await).await
    }

    fn reads(&self) -> Vec<String> {
        self.objects.document_reads.lock().unwrap().clone()
    }
}

/// Writes, each with its type.
fn writes() -> [(&'static str, String, &'static str, String); 6] {
    let (list, one) = (
        format!("{BASE}/namespaces/shop/trafficmetrics"),
        format!("{BASE}/namespaces/shop/trafficmetrics/web"),
    );
    let (json, body) = ("application/json", metrics().to_string());
    let applied = format!("{one}?fieldManager=ci");
    [
        ("POST", list, json, body.clone()),
        ("PUT", one.clone(), json, body.clone()),
        ("PATCH", one.clone(), "application/merge-patch+json", "{}".to_owned()),
        ("PATCH", one.clone(), "application/json-patch+json", "[]".to_owned()),
        ("PATCH", applied, "application/apply-patch+yaml", body),
        ("DELETE", one, json, "{}".to_owned()),
    ]
}

#[tokio::test]
async fn without_the_right_nothing_is_read_or_written() {
    let port = Port::open().await;
    keep(&port);
    port.objects.allowed.store(false, SeqCst);
    let verbs = ["create", "update", "patch", "patch", "patch", "delete"];
    for ((method, path, kind, body), verb) in writes().into_iter().zip(verbs) {
        let (status, document) = port.write(method, &path, kind, &body).await;
        assert_eq!((status, &document["reason"]), (403, &json!("Forbidden")), "{method} {path}");
        let message = document["message"].as_str().unwrap();
        assert!(message.contains(&format!("cannot {verb} resource \"trafficmetrics\"")), "{message}");
        let review =
            port.objects.access_reviews.lock().unwrap().last().unwrap()["resourceAttributes"].clone();
        assert_eq!((&review["verb"], &review["namespace"]), (&json!(verb), &json!("shop")), "{path}");
        assert_eq!(review["resource"], "trafficmetrics");
    }
    // The same for what does not exist, and whatever the body is.
    let missing = format!("{BASE}/namespaces/shop/trafficmetrics/none");
    for body in ["", "{", &"a".repeat(MAX_BODY)] {
        assert_eq!(port.write("PUT", &missing, "application/json", body).await.0, 403);
    }
    assert_eq!(port.ask(&missing, &[]).await.0, 403);
    assert!(port.reads().is_empty(), "{:?}", port.reads());
}

#[tokio::test]
async fn forged_headers_write_nothing() {
    let port = Port::open().await;
    keep(&port);
    let forged = [("x-remote-user", "system:admin"), ("x-remote-group", "system:masters")];
    for shown in [None, Some("kubelet")] {
        for (method, path, _, body) in writes() {
            let shown = shown.map(|name| port.front_proxies.client(name, &[]));
            let answer = port.send_body(shown, (method, &path), &forged, &body).await;
            assert_eq!(read(answer).await.0, 401, "{method} {path}");
        }
    }
    assert!(port.reads().is_empty() && port.objects.access_reviews.lock().unwrap().is_empty());
}

#[tokio::test]
async fn writes_reach_the_policy_and_their_answers_have_its_metadata() {
    let port = Port::open().await;
    keep(&port);
    for (method, path, kind, body) in writes().into_iter().skip(1) {
        let (status, document) = port.write(method, &path, kind, &body).await;
        assert_eq!(status, 200, "{method} {kind}: {document}");
        assert_eq!(document["kind"], "TrafficMetrics", "{method} {kind}: {document}");
        assert_eq!(document["metadata"]["uid"], "u-1");
        assert_eq!(document["resource"]["name"], "web");
        let last = port.reads().pop().unwrap();
        assert!(last.starts_with(&format!("{POLICIES}/web")), "{last}");
    }
    let query = "?dryRun=All&fieldManager=ci&force=true";
    let path = format!("{BASE}/namespaces/shop/trafficmetrics/web{query}");
    port.write("PATCH", &path, "application/apply-patch+yaml", &metrics().to_string()).await;
    assert_eq!(port.reads().pop().unwrap(), format!("{POLICIES}/web?dryRun=All&force=true&fieldManager=ci"));
    let missing = format!("{BASE}/namespaces/shop/trafficmetrics/none");
    for (method, kind) in [("DELETE", "application/json"), ("PATCH", "application/merge-patch+json")] {
        let (status, document) = port.write(method, &missing, kind, "{}").await;
        assert_eq!((status, &document["details"]["name"]), (404, &json!("none")), "{document}");
    }
}

#[tokio::test]
async fn a_read_has_the_figures_of_what_is_measured() {
    let port = Port::open().await;
    keep(&port);
    let path = format!("{BASE}/namespaces/shop/trafficmetrics");
    let (status, one) = port.ask(&format!("{path}/web"), &[]).await;
    assert_eq!((status, &one["metrics"][3]["value"]), (200, &json!("7")), "{one}");
    assert_eq!((&one["window"], &one["edge"]["resource"]), (&json!("30s"), &Value::Null));
    let (status, list) = port.ask(&format!("{path}?limit=3&labelSelector=a%3Db"), &[]).await;
    assert_eq!((status, &list["items"][0]["metrics"][3]["value"]), (200, &json!("7")));
    assert_eq!(list["metadata"]["resourceVersion"], "9");
    assert_eq!(port.reads().pop().unwrap(), format!("{POLICIES}?limit=3&labelSelector=a%3Db"));
}

#[tokio::test]
async fn bodies_are_bounded_and_ineffective_fields_are_named() {
    let port = Port::open().await;
    keep(&port);
    let one = format!("{BASE}/namespaces/shop/trafficmetrics/web");
    let large = " ".repeat(MAX_BODY + 1);
    assert_eq!(port.write("PUT", &one, "application/json", &large).await.0, 413);
    let mut object = metrics();
    object["window"] = json!("1m\u{7}é");
    let headers = [("x-remote-user", "ann"), ("content-type", "application/json")];
    let answer = port.send_body(Some(port.api_server()), ("PUT", &one), &headers, &object.to_string()).await;
    let warning = answer.headers()["warning"].to_str().unwrap();
    assert!(warning.starts_with("299 - \"no effect") && warning.contains("window"), "{warning}");
    port.objects.documents.lock().unwrap().clear();
    port.objects.down.store(true, SeqCst);
    assert!(port.write("PUT", &one, "application/json", &metrics().to_string()).await.0 >= 500);
}

#[test]
fn the_policy_is_the_kind_that_the_operator_reads() {
    let version = format!("{}/{}", MetricsPolicySpec::GROUP, MetricsPolicySpec::VERSION);
    assert_eq!((policy::API_VERSION, policy::KIND), (version.as_str(), MetricsPolicySpec::KIND));
    assert_eq!(policy::POLICIES, MetricsPolicySpec::PLURAL);
}
