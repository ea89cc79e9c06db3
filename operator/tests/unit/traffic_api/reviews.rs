//! Authorization: each request is reviewed by the API server as what it is, and refused if there is no verdict.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};

use super::{BASE, Port};

#[tokio::test]
async fn a_review_has_the_user_and_the_resource() {
    let port = Port::open().await;
    let headers = [
        ("x-remote-group", "devs"),
        ("x-remote-group", "system:authenticated"),
        ("x-remote-uid", "u-1"),
        ("x-remote-extra-example.org%2fscopes", "a+b"),
    ];
    let cases: [(&str, Value); 5] = [
        ("deployments", json!({"verb": "list", "resource": "deployments"})),
        (
            "namespaces/shop/deployments/web",
            json!({
                "verb": "get", "resource": "deployments", "namespace": "shop", "name": "web",
            }),
        ),
        (
            "namespaces/shop/deployments/web/edges",
            json!({
                "verb": "get", "resource": "deployments", "subresource": "edges", "namespace": "shop", "name": "web",
            }),
        ),
        (
            "namespaces/shop/edges",
            json!({
                "verb": "get", "resource": "namespaces", "subresource": "edges", "namespace": "shop", "name": "shop",
            }),
        ),
        (
            "nodes?watch=true&fieldSelector=metadata.name=one",
            json!({
                "verb": "watch", "resource": "nodes", "name": "one",
            }),
        ),
    ];
    for (path, mut attributes) in cases {
        let _ = port.ask(&format!("{BASE}/{path}"), &headers).await;
        attributes["group"] = json!("metrics.smi-spec.io");
        attributes["version"] = json!("v1alpha2");
        let expected = json!({
            "user": "ann", "uid": "u-1", "groups": ["devs", "system:authenticated"],
            "extra": {"example.org/scopes": ["a+b"]}, "resourceAttributes": attributes,
        });
        assert_eq!(port.objects.access_reviews.lock().unwrap().last(), Some(&expected), "{path}");
    }
}

#[tokio::test]
async fn a_user_without_the_right_gets_403_and_discovery() {
    let port = Port::open().await;
    port.objects.allowed.store(false, SeqCst);
    let (status, document) = port.ask(&format!("{BASE}/namespaces/shop/deployments/web/edges"), &[]).await;
    assert_eq!((status, &document["reason"]), (403, &json!("Forbidden")));
    let message = document["message"].as_str().unwrap();
    for part in ["User \"ann\" cannot get", "\"deployments/edges\"", "in the namespace \"shop\""] {
        assert!(message.contains(part), "{message}");
    }
    // The same for what does not exist.
    assert_eq!(port.ask(&format!("{BASE}/namespaces/shop/deployments/none"), &[]).await.0, 403);
    for path in ["/apis/metrics.smi-spec.io", BASE, "/openapi/v2", "/openapi/v3"] {
        assert_eq!(port.ask(path, &[]).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn a_verdict_is_cached_for_its_user_alone() {
    let port = Port::open().await;
    let path = format!("{BASE}/deployments");
    let count = || port.objects.access_reviews.lock().unwrap().len();
    for _ in 0..3 {
        assert_eq!(port.ask(&path, &[]).await.0, 200);
    }
    // On a busy machine one may expire.
    let before = count();
    assert!(before < 3, "{before} reviews of three requests");
    port.objects.allowed.store(false, SeqCst);
    for headers in [("x-remote-group", "devs"), ("x-remote-uid", "u-1"), ("x-remote-extra-a", "b")] {
        assert_eq!(port.ask(&path, &[headers]).await.0, 403, "{headers:?}");
    }
    assert_eq!(count(), before + 3);
}

#[tokio::test]
async fn without_a_verdict_there_is_no_answer_and_no_reason() {
    let port = Port::open().await;
    port.objects.hold_access_reviews(true);
    let (status, document) = port.ask(&format!("{BASE}/deployments"), &[]).await;
    assert_eq!((status, &document["reason"]), (500, &json!("InternalError")), "it hangs");
    port.objects.hold_access_reviews(false);
    port.objects.down.store(true, SeqCst);
    let (status, document) = port.ask(&format!("{BASE}/pods"), &[]).await;
    assert_eq!(status, 500, "it fails");
    let message = document["message"].as_str().unwrap();
    assert_eq!(message, "the API server did not review the user's permissions; try again");
}
