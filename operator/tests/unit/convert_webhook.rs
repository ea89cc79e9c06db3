//! The conversion webhook: reviews in, reviews out. `smidge-crds` tests what the versions can express; this tests what
//! the API server demands of the answer.

use serde_json::{Value, json};
use smidge::webhook::conversion;

const NEW: &str = "split.smi-spec.io/v1alpha4";
const OLD: &str = "split.smi-spec.io/v1alpha2";

fn a_split(name: &str, weight: i64) -> Value {
    json!({
        "apiVersion": NEW, "kind": "TrafficSplit",
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "7", "generation": 3,
            "labels": {"team": "a"}, "annotations": {"flagger": "yes"}, "finalizers": ["a.example.org/b"],
            "managedFields": [{"manager": "helm", "operation": "Apply"}],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
        },
        "spec": {"service": "web", "backends": [{"service": "web-v1", "weight": weight}]},
    })
}

fn review(objects: &Value, to: &str) -> Vec<u8> {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "request": {"uid": "5d3c", "desiredAPIVersion": to, "objects": objects},
    })
    .to_string()
    .into_bytes()
}

fn answered(body: &[u8]) -> Value {
    serde_json::from_slice(&conversion::answer(body).unwrap()).unwrap()
}

fn answer(objects: &Value, to: &str) -> Value {
    let mut answer = answered(&review(objects, to));
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!("apiextensions.k8s.io/v1"), &json!("ConversionReview"))
    );
    assert_eq!(answer["response"]["uid"], "5d3c");
    answer["response"].take()
}

fn without_notes(object: &Value) -> Value {
    let mut metadata = object["metadata"].clone();
    metadata.as_object_mut().unwrap().remove("annotations");
    metadata
}

#[test]
fn objects_come_back_in_their_order_with_their_metadata() {
    let objects: Vec<Value> = (0..20).map(|index| a_split(&format!("s{index}"), index)).collect();
    for (wanted, given) in [(OLD, &json!(objects)), (NEW, &json!(objects))] {
        let response = answer(given, wanted);
        assert_eq!(response["result"], json!({"status": "Success"}));
        let converted = response["convertedObjects"].as_array().unwrap();
        assert_eq!(converted.len(), objects.len());
        for (object, converted) in objects.iter().zip(converted) {
            assert_eq!(converted["apiVersion"], wanted);
            assert_eq!(without_notes(object), without_notes(converted));
            assert_eq!(converted["metadata"]["annotations"]["flagger"], "yes");
            assert_eq!(converted["spec"]["backends"][0]["weight"], object["spec"]["backends"][0]["weight"]);
        }
    }
    assert_eq!(answer(&json!([]), OLD)["convertedObjects"], json!([]));
}

#[test]
fn one_that_cannot_be_converted_fails_the_review_and_is_named() {
    let mut broken = a_split("broken", 1);
    broken["apiVersion"] = json!("split.smi-spec.io/v9");
    let response = answer(&json!([a_split("fine", 1), broken]), OLD);
    assert_eq!(
        (&response["result"]["status"], &response["convertedObjects"]),
        (&json!("Failure"), &json!([]))
    );
    let message = response["result"]["message"].as_str().unwrap();
    for part in ["TrafficSplit shop/broken", "split.smi-spec.io/v9", OLD, "hint: "] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    let stranger = json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "t"}});
    let message = answer(&json!([stranger]), "example.org/v2")["result"]["message"].to_string();
    assert!(message.contains("Thing t"), "{message}");
}

#[test]
fn what_is_nested_too_deeply_is_a_failure_with_words() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let body = format!(
        r#"{{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{{"uid":"5d3c",
        "desiredAPIVersion":"{OLD}","objects":[{{"spec":{deep}}}]}}}}"#
    );
    let response = answered(body.as_bytes())["response"].take();
    assert_eq!((&response["uid"], &response["result"]["status"]), (&json!("5d3c"), &json!("Failure")));
    assert!(response["result"]["message"].as_str().unwrap().contains("less deeply"), "{response}");
}

#[test]
fn nonsense_is_an_error_and_no_panic() {
    for body in ["", "null", "{}", "[]", r#"{"apiVersion":"apiextensions.k8s.io/v1","request":null}"#] {
        conversion::answer(body.as_bytes()).unwrap_err();
    }
    conversion::answer(b"{\"apiVersion\":\"apiextensions.k8s.io/v1\",\"request\":{\"uid\":\"\xff\"}}")
        .unwrap_err();
    let old_review =
        String::from_utf8(review(&json!([]), OLD)).unwrap().replace("k8s.io/v1", "k8s.io/v1beta1");
    conversion::answer(old_review.as_bytes()).unwrap_err();
    for object in
        [json!(null), json!(1), json!([]), json!({}), json!({"kind": 1, "apiVersion": [], "metadata": "x"})]
    {
        assert_eq!(answer(&json!([object]), OLD)["result"]["status"], "Failure", "{object}");
    }
    for field in
        ["/metadata", "/metadata/annotations", "/metadata/labels", "/spec", "/spec/backends", "/status"]
    {
        for value in [json!(null), json!("x"), json!([1]), json!({"a": {"b": []}})] {
            for wanted in
                [OLD, "split.smi-spec.io/v1alpha1", "split.smi-spec.io/v9", "", "access.smi-spec.io/v1alpha1"]
            {
                let mut object = a_split("odd", 1);
                if let Some(field) = object.pointer_mut(field) {
                    *field = value.clone();
                }
                let _ = answer(&json!([object]), wanted);
            }
        }
    }
}

#[test]
fn an_object_that_no_api_server_stores_is_refused_before_it_is_parsed() {
    let mut large = a_split("large", 1);
    large["spec"]["service"] = json!("a".repeat(3 << 20));
    let response = answer(&json!([large]), OLD);
    let message = response["result"]["message"].as_str().unwrap();
    assert!(message.contains("bytes") && message.contains("hint: ") && message.len() < 300, "{message}");
}

#[test]
fn an_error_quotes_little_and_nothing_that_forges_a_line() {
    let body = json!({"apiVersion": "A\n\u{202e}".repeat(1 << 18), "kind": "x", "request": {"uid": "u", "desiredAPIVersion": ""}});
    let error = conversion::answer(body.to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.len() < 2000 && !error.contains(['\n', '\u{202e}']), "{error}");
}
