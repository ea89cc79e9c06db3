//! Annotations of a pod's namespace, as the operator has read it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};
use smidge::{
    injector::Settings,
    inputs::{Inputs, Shared},
    webhook::injection::{self, Metrics, Strictness},
};
use smidge_mesh::id::ClusterId;

use super::{DEADLINE, a_pod, a_review, patch, post, serve_for};

fn annotated(annotations: &Value) -> Shared<Namespace> {
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "shop", "annotations": annotations}})).unwrap();
    namespace.into()
}

/// Answers the review of a pod with `own` annotations.
fn answer(own: Value, namespace: Option<Shared<Namespace>>) -> Value {
    let mut pod = a_pod();
    pod["metadata"]["annotations"] = own;
    let body = a_review(&pod).to_string();
    let find = |name: &str| {
        assert_eq!(name, "shop");
        namespace
    };
    let answer =
        injection::answer(body.as_bytes(), &Settings::default(), Strictness::Warn, &Metrics::default(), find);
    answer.unwrap()["response"].take()
}

fn proxy_resources(own: &Value, namespace: Option<Shared<Namespace>>) -> Value {
    let mut pod = a_pod();
    pod["metadata"]["annotations"] = own.clone();
    json_patch::patch(&mut pod, &patch(&answer(own.clone(), namespace))).unwrap();
    pod["spec"]["initContainers"][1]["resources"].take()
}

#[test]
fn the_pod_has_precedence_over_the_namespace_and_that_over_the_mesh() {
    let namespace = annotated(&json!({
        "smidge.mesh/proxy-cpu-request": "100m", "smidge.mesh/proxy-cpu-limit": "1",
    }));
    assert_eq!(
        proxy_resources(&json!({"smidge.mesh/proxy-cpu-limit": "2"}), Some(namespace.clone())),
        json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "512Mi"}})
    );
    assert_eq!(
        proxy_resources(&json!({"smidge.mesh/proxy-cpu-limit": "none"}), Some(namespace)),
        json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}})
    );
}

#[test]
fn a_bad_annotation_of_the_namespace_refuses_its_pods() {
    let response = answer(json!({}), Some(annotated(&json!({"smidge.mesh/init-memory-limit": "64M i"}))));
    assert_eq!(response["allowed"], false);
    assert_eq!(
        response["status"]["message"],
        "smidge: annotation smidge.mesh/init-memory-limit of namespace shop has the value \"64M i\": expected a quantity \
         such as 100m or 64Mi, or none"
    );
}

#[test]
fn a_namespace_that_is_not_known_is_a_warning() {
    let response = answer(json!({}), None);
    assert_eq!(response["allowed"], true);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("has not read namespace shop yet"), "{warning}");
}

/// A file has a namespace and pods for it: the watch brings the namespace a moment after the review.
#[tokio::test]
async fn a_review_waits_for_its_namespace() {
    let (served, clusters) = serve_for();
    let served = served.await;
    let body = a_review(&a_pod()).to_string();
    let asked = post(&served, "/inject", body.as_bytes());
    let known = async {
        let mut inputs = Inputs::default();
        let annotations = json!({"smidge.mesh/proxy-cpu-limit": "1"});
        inputs.namespaces.insert((String::new(), "shop".to_owned()), annotated(&annotations));
        clusters.send_replace(BTreeMap::from([(ClusterId("local".to_owned()), inputs)]));
    };
    let ((status, body), ()) =
        tokio::time::timeout(DEADLINE, async { tokio::join!(asked, known) }).await.expect("no answer");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let response = serde_json::from_slice::<Value>(&body).unwrap()["response"].take();
    assert_eq!(response.get("warnings"), None, "{response}");
    let mut pod = a_pod();
    json_patch::patch(&mut pod, &patch(&response)).unwrap();
    assert_eq!(pod["spec"]["initContainers"][1]["resources"]["limits"]["cpu"], "1");
}
