//! TrafficMetrics that are written: what is taken of them, what is refused, and what patches may do.

use serde_json::{Value, json};
use smidge_traffic_metrics::api::{
    request::{self, Request},
    status::Status,
    stored::{
        Stored, Validation, answer,
        patch::{self, Change, Patch},
        policy::{self, Shown},
        refusal,
    },
};

const LIST: &str = "/apis/metrics.smi-spec.io/v1alpha2/namespaces/shop/trafficmetrics";
const ONE: &str = "/apis/metrics.smi-spec.io/v1alpha2/namespaces/shop/trafficmetrics/web";

fn request(method: &str, path: &str, query: &str) -> Stored {
    match request::parse(method, path, query) {
        Ok(Request::Stored(stored)) => stored,
        other => panic!("{path}: {other:?}"),
    }
}

fn metrics() -> Value {
    json!({
        "apiVersion": "metrics.smi-spec.io/v1alpha2", "kind": "TrafficMetrics",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"team": "a"}, "annotations": {"note": "b"}},
        "resource": {"kind": "Deployment", "namespace": "shop", "name": "web"},
    })
}

fn policy_of(target: &str) -> Value {
    json!({
        "apiVersion": policy::API_VERSION, "kind": policy::KIND,
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "7", "labels": {"old": "c"},
            "finalizers": ["example.org/f"], "ownerReferences": [{"name": "o"}], "managedFields": [{}],
        },
        "spec": {"target": {"kind": "Deployment", "name": target}, "rules": [{"kind": "HTTPRouteGroup", "name": "books"}]},
    })
}

fn with(pointer: &str, field: &str, value: Value) -> Value {
    let mut object = metrics();
    object.pointer_mut(pointer).unwrap()[field] = value;
    object
}

fn text(status: &Status) -> String {
    String::from_utf8(status.json()).unwrap()
}

#[test]
fn a_new_one_becomes_a_policy_without_rules() {
    let wanted = policy::read(&metrics(), &request("POST", LIST, ""), true).unwrap();
    assert!(wanted.warnings.is_empty(), "{wanted:?}");
    let expected = json!({
        "apiVersion": "smidge.mesh/v1alpha1", "kind": "MetricsPolicy",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"team": "a"}, "annotations": {"note": "b"}},
        "spec": {"target": {"kind": "Deployment", "name": "web"}},
    });
    assert_eq!(wanted.new_policy(), expected);
}

#[test]
fn an_author_sets_nothing_but_target_labels_and_annotations() {
    let mut object = metrics();
    object["spec"] = json!({"rules": [{"kind": "HTTPRouteGroup", "name": "other"}]});
    for (field, value) in [("finalizers", json!(["a/b"])), ("ownerReferences", json!([{"uid": "u"}]))] {
        object["metadata"][field] = value;
    }
    object["metrics"] = json!([{"name": "success_count", "value": "1"}]);
    object["window"] = json!("30s");
    let stored = request("POST", LIST, "");
    let wanted = policy::read(&object, &stored, true).unwrap();
    assert_eq!(
        wanted.warnings,
        [
            r#"unknown fields "spec""#,
            "no effect in a TrafficMetrics that is written: \"metrics\", \"window\", \"metadata.finalizers\", \
             \"metadata.ownerReferences\"",
        ]
    );
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let made = wanted.clone().new_policy();
    assert_eq!(keys(&made["metadata"]), ["annotations", "labels", "name", "namespace"]);
    assert_eq!(keys(&made["spec"]), ["target"]);
    let applied = wanted.clone().applied(Some(&json!("u-1")));
    assert_eq!(keys(&applied["spec"]), ["target"]);
    assert_eq!(applied["metadata"]["uid"], "u-1", "it creates none");
    let kept = wanted.onto(policy_of("other"));
    assert_eq!(kept["spec"]["rules"][0]["name"], "books");
    assert_eq!(kept["spec"]["target"]["name"], "web");
    assert_eq!(kept["metadata"]["finalizers"], json!(["example.org/f"]));
    assert_eq!(kept["metadata"]["ownerReferences"], json!([{"name": "o"}]));
    assert_eq!(kept["metadata"]["labels"], json!({"team": "a"}));
    assert_eq!(kept["metadata"]["resourceVersion"], "7");
    let strict = Stored {
        options: smidge_traffic_metrics::api::stored::Options {
            validation: Validation::Strict,
            ..stored.options.clone()
        },
        ..stored
    };
    let refused = policy::read(&object, &strict, true).unwrap_err();
    assert!(refused.code == 400 && refused.message().contains("\"spec\""), "{refused:?}");
}

#[test]
fn what_cannot_be_is_refused_by_field_value_and_expectation() {
    let cases = [
        ("/resource", "namespace", json!("other"), 422, "resource.namespace", "expected \\\"shop\\\""),
        ("/resource", "namespace", json!(3), 422, "resource.namespace", "not a text"),
        ("/resource", "kind", json!("Node"), 422, "resource.kind", "expected one of DaemonSet, Deployment"),
        ("/resource", "kind", json!(""), 422, "resource.kind", "Required value"),
        ("/resource", "name", json!(null), 422, "resource.name", "Required value"),
        ("/resource", "name", json!("../x"), 422, "resource.name", "the name of an object"),
        ("", "resource", json!("web"), 422, "resource", "Required value"),
        ("", "kind", json!("Pod"), 400, "kind", "TrafficMetrics"),
        ("", "apiVersion", json!("metrics.smi-spec.io/v1alpha1"), 400, "apiVersion", "v1alpha2"),
        ("", "metadata", json!([]), 400, "metadata", "an object"),
        ("/metadata", "namespace", json!("other"), 400, "namespace", "\\\"shop\\\""),
        ("/metadata", "name", json!("other"), 400, "name", "\\\"web\\\""),
    ];
    for (pointer, field, value, code, named, expected) in cases {
        let object = with(pointer, field, value.clone());
        let status = policy::read(&object, &request("PUT", ONE, ""), true).unwrap_err();
        assert_eq!(status.code, code, "{pointer} {field} {value}");
        let text = text(&status);
        assert!(text.contains(named) && text.contains(expected), "{text}");
    }
    let mut own = with("/resource", "kind", json!("Namespace"));
    let refused = policy::read(&own, &request("POST", LIST, ""), true).unwrap_err();
    assert!(refused.message().contains("the namespace of the TrafficMetrics"), "{refused:?}");
    own["resource"]["name"] = json!("shop");
    assert!(policy::read(&own, &request("POST", LIST, ""), true).is_ok());
    for body in ["[]", "3", "null"] {
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(policy::read(&body, &request("POST", LIST, ""), true).unwrap_err().code, 400, "{body}");
    }
}

#[test]
fn methods_and_parameters_are_those_of_api_servers() {
    let cases = [
        ("GET", LIST, "list"),
        ("GET", ONE, "get"),
        ("POST", LIST, "create"),
        ("PUT", ONE, "update"),
        ("PATCH", ONE, "patch"),
        ("DELETE", ONE, "delete"),
    ];
    for (method, path, verb) in cases {
        let stored = request(method, path, "");
        let access = stored.access();
        assert_eq!((access.verb, access.plural, access.namespace), (verb, "trafficmetrics", Some("shop")));
    }
    let everywhere = "/apis/metrics.smi-spec.io/v1alpha2/trafficmetrics";
    for (method, path, query) in [
        ("DELETE", LIST, ""),
        ("PATCH", LIST, ""),
        ("POST", ONE, ""),
        ("POST", everywhere, ""),
        ("GET", LIST, "watch=true"),
    ] {
        assert_eq!(request::parse(method, path, query).unwrap_err().code, 405, "{method} {path}");
    }
    for path in [format!("{ONE}/edges"), format!("{LIST}/A"), format!("{everywhere}/web")] {
        assert_eq!(request::parse("GET", &path, "").unwrap_err().code, 404, "{path}");
    }
    let query = "dryRun=All&fieldManager=ci&force=true&fieldValidation=Strict";
    let options = request("PATCH", ONE, query).options;
    assert!(options.dry_run && options.force && options.manager == "ci");
    assert_eq!(options.validation, Validation::Strict);
    for query in ["dryRun=Some", "fieldValidation=Maybe", &format!("fieldManager={}", "a".repeat(129))] {
        assert_eq!(request::parse("PATCH", ONE, query).unwrap_err().code, 400, "{query}");
    }
    let other = "/apis/metrics.smi-spec.io/v1alpha2/namespaces/shop/deployments/web";
    let status = request::parse("DELETE", other, "").unwrap_err();
    assert!(status.code == 405 && status.message().contains("trafficmetrics"), "{status:?}");
}

#[test]
fn a_list_asks_for_an_object_by_name_if_its_policies_measure_one() {
    let named = |targets: &[&str]| {
        let policies: Vec<Shown> = targets.iter().map(|target| Shown::of(&policy_of(target))).collect();
        let questions = answer::questions(&request("GET", LIST, ""), &policies);
        assert_eq!(questions.len(), 1, "{questions:?}");
        assert_eq!(questions[0].namespace.as_deref(), Some("shop"));
        questions[0].name.clone()
    };
    assert_eq!(named(&["web"]).as_deref(), Some("web"));
    assert_eq!(named(&["web", "web", "web"]).as_deref(), Some("web"));
    assert_eq!(named(&["web", "api", "web"]), None);
}

/// Applies a patch of this type to the TrafficMetrics of a policy.
fn patched(kind: &str, body: &str) -> Result<Value, Status> {
    match patch::read(kind, body.as_bytes())? {
        Patch::Change(change) => {
            patch::change(&Shown::of(&policy_of("web")), &change, &request("PATCH", ONE, ""))
        }
        Patch::Applied(object) => Ok(object),
    }
}

#[test]
fn patches_change_the_object_as_its_author_sees_it() {
    let (merge, operations) = ("application/merge-patch+json", "application/json-patch+json; charset=utf-8");
    let object = patched(merge, r#"{"resource":{"name":"api"},"metadata":{"labels":{"old":null}}}"#).unwrap();
    assert_eq!(object["resource"], json!({"kind": "Deployment", "namespace": "shop", "name": "api"}));
    assert_eq!(object["metadata"]["labels"], json!({}));
    let body = r#"[{"op":"test","path":"/resource/name","value":"web"},{"op":"replace","path":"/resource/name","value":"x"}]"#;
    assert_eq!(patched(operations, body).unwrap()["resource"]["name"], "x");
    let body = r#"[{"op":"test","path":"/resource/name","value":"api"}]"#;
    assert_eq!(patched(operations, body).unwrap_err().code, 422);
    assert_eq!(patched("application/apply-patch+yaml", "{}").unwrap(), json!({}));
    for (kind, code) in [
        ("application/strategic-merge-patch+json", 415),
        ("text/plain", 415),
        ("", 415),
        (merge, 400),
        (operations, 400),
        ("application/apply-patch+yaml", 400),
    ] {
        assert_eq!(patched(kind, "a: [").unwrap_err().code, code, "{kind}");
    }
    assert!(
        patched("application/strategic-merge-patch+json", "").unwrap_err().message().contains("--type=merge")
    );
}

#[test]
fn no_patch_grows_without_a_bound() {
    let kind = "application/json-patch+json";
    let copies: Vec<Value> =
        (0..100).map(|number| json!({"op": "copy", "from": "", "path": format!("/c{number}")})).collect();
    assert_eq!(patched(kind, &json!(copies).to_string()).unwrap_err().code, 413);
    let many: Vec<Value> = (0..101).map(|_| json!({"op": "test", "path": "/kind", "value": ""})).collect();
    assert!(patched(kind, &json!(many).to_string()).unwrap_err().message().contains("at most 100"));
    // Each adds below what the one before has added.
    let nested = "{\"a\":".repeat(90) + "{}" + &"}".repeat(90);
    let nested: Value = serde_json::from_str(&nested).unwrap();
    let deep: Vec<Value> = (0..90)
        .map(|number| json!({"op": "add", "path": "/metadata".to_owned() + &"/a".repeat(90 * number), "value": nested}))
        .collect();
    assert_eq!(patched(kind, &json!(deep).to_string()).unwrap_err().code, 413);
    let deep = "{\"a\":".repeat(10_000) + "1" + &"}".repeat(10_000);
    for kind in [kind, "application/merge-patch+json", "application/apply-patch+yaml"] {
        assert_eq!(patched(kind, &deep).unwrap_err().code, 400, "{kind}");
    }
    let wide = json!({"metadata": {"labels": vec![0; 20_000]}}).to_string();
    assert_eq!(patched("application/merge-patch+json", &wide).unwrap_err().code, 413);
    let change = Change::Whole(metrics());
    assert_eq!(patch::change(&Shown::default(), &change, &request("PUT", ONE, "")).unwrap(), metrics());
}

#[test]
fn errors_are_about_what_the_user_has_sent() {
    let body = json!({
        "message": "MetricsPolicy.smidge.mesh \"web\" is invalid: spec.target.name: Required value",
        "reason": "Invalid", "details": {"causes": [{"reason": "FieldValueRequired", "message": "m", "field": "spec.target.name"}]},
    });
    let status = refusal::of(422, &body, "web");
    assert_eq!(
        text(&status),
        "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"TrafficMetrics.metrics.smi-spec.io \
         \\\"web\\\" is invalid: resource.name: Required value\",\"reason\":\"Invalid\",\"details\":{\"name\":\"web\",\"group\":\
         \"metrics.smi-spec.io\",\"kind\":\"trafficmetrics\",\"causes\":[{\"reason\":\"FieldValueRequired\",\"message\":\"m\",\
         \"field\":\"resource.name\"}]},\"code\":422}"
    );
    let own = json!({
        "message": "metricspolicies.smidge.mesh is forbidden: User \"system:serviceaccount:mesh:smidge\" cannot create resource",
        "reason": "Forbidden",
    });
    let status = refusal::of(403, &own, "web");
    assert!(status.code == 500 && !text(&status).contains("serviceaccount"), "{status:?}");
    let denied = json!({"message": "admission webhook \"w\" denied the request: no", "reason": "Forbidden"});
    assert_eq!(refusal::of(403, &denied, "web").code, 403);
    for (code, body) in [(500, json!({"reason": "InternalError", "message": "10.0.0.7"})), (404, Value::Null)]
    {
        let status = refusal::of(code, &body, "web");
        assert!(status.code == 503 && !text(&status).contains("10.0.0.7"), "{status:?}");
    }
}
