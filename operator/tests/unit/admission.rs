//! The validating webhook: what is refused, what is admitted with a warning, and what passes in silence.

mod bounds;

use std::{cell::RefCell, collections::BTreeSet};

use serde_json::{Value, json};
use smidge::{
    admission::{Current, referenced_objects},
    documents::{Source, assemble},
    inputs::Inputs,
    webhook::validation,
};

/// The cluster of most tests: a Service with two backends in the mesh, a route group, another split of another root.
const WORLD: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v1, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web}]}}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: routes, namespace: shop}
spec: {matches: [{name: all}]}
";

fn harness(yaml: &str) -> Inputs {
    let offline = assemble(&[Source { name: "harness.yaml".to_owned(), text: yaml.to_owned() }]);
    assert_eq!(offline.unreadable, []);
    offline.inputs
}

fn object(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

fn a_target(spec: &str) -> Value {
    object(&format!(
        "{{apiVersion: access.smi-spec.io/v1alpha4, kind: TrafficTarget, metadata: {{name: buy, namespace: shop}}, \
         spec: {spec}}}"
    ))
}

fn a_fine_target() -> Value {
    a_target(
        "{destination: {kind: ServiceAccount, name: default}, rules: [{kind: HTTPRouteGroup, name: routes}], \
         sources: [{kind: ServiceAccount, name: buyer}]}",
    )
}

fn a_split(version: &str, backends: &str) -> Value {
    object(&format!(
        "{{apiVersion: split.smi-spec.io/{version}, kind: TrafficSplit, metadata: {{name: web, namespace: shop}}, \
         spec: {{service: web, backends: {backends}}}}}"
    ))
}

fn a_group(matches: &str) -> Value {
    object(&format!(
        "{{apiVersion: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, metadata: {{name: own, namespace: shop}}, \
         spec: {{matches: {matches}}}}}"
    ))
}

fn a_config(spec: &str) -> Value {
    object(&format!(
        "{{apiVersion: smidge.mesh/v1alpha1, kind: MeshConfig, metadata: {{name: default}}, spec: {spec}}}"
    ))
}

fn review(operation: &str, object: &Value, old: &Value) -> Value {
    let some = [object, old].into_iter().find(|object| !object.is_null()).unwrap();
    let (group, version) =
        some["apiVersion"].as_str().unwrap_or_default().split_once('/').unwrap_or_default();
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5", "operation": operation, "dryRun": false,
            "kind": {"group": group, "version": version, "kind": some["kind"]},
            "namespace": some["metadata"]["namespace"].as_str().unwrap_or_default(),
            "name": some["metadata"]["name"], "object": object, "oldObject": old,
        },
    })
}

fn answered(review: &Value, current: &Current) -> Value {
    let body = review.to_string();
    let look = |namespaces: &BTreeSet<String>| Current {
        inputs: referenced_objects(&current.inputs, namespaces),
        read: current.read,
    };
    let mut answer = validation::answer(body.as_bytes(), look).unwrap();
    assert_eq!(
        (&answer["kind"], &answer["response"]["uid"]),
        (&json!("AdmissionReview"), &json!("705ab4f5"))
    );
    answer["response"].take()
}

fn created(object: &Value) -> Value {
    answered(&review("CREATE", object, &json!(null)), &Current { inputs: harness(WORLD), read: true })
}

fn refusal(response: &Value) -> &str {
    assert_eq!(response["allowed"], false, "{response}");
    assert_eq!(
        (&response["status"]["code"], &response["status"]["reason"]),
        (&json!(422), &json!("Invalid"))
    );
    response["status"]["message"].as_str().unwrap()
}

fn warnings(response: &Value) -> Vec<&str> {
    assert_eq!(response["allowed"], true, "{response}");
    response["warnings"].as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn what_is_fine_passes_in_silence() {
    for fine in [
        a_fine_target(),
        a_split("v1alpha4", "[{service: web-v1, weight: 1}]"),
        a_group("[{name: a, pathRegex: /a, methods: [GET], headers: [{x: '1'}]}]"),
        a_config("{access: {mode: permissive}}"),
    ] {
        let response = created(&fine);
        assert_eq!(warnings(&response), [""; 0], "{fine}");
    }
}

/// Object, and what the refusal must contain: field, value, what was expected.
#[test]
fn what_can_never_mean_anything_is_refused_by_field_and_value() {
    let table: Vec<(Value, &[&str])> = vec![
        (
            a_group("[{name: a, pathRegex: '/a('}]"),
            &["HTTPRouteGroup shop/own", "spec.matches[0].pathRegex", "/a(", "InvalidRegex"],
        ),
        (a_group("[{name: a, headers: [{x: '('}]}]"), &["spec.matches[0].headers[x]", "InvalidRegex"]),
        (a_group("[{name: a, headers: [{'x y': '1'}]}]"), &["x y", "InvalidHeader"]),
        (a_group("[{name: a, methods: [get]}]"), &["spec.matches[0].methods[0]", "\"get\"", "capitals"]),
        (
            a_split("v1alpha4", "[{service: web-v1, weight: -1}]"),
            &["TrafficSplit shop/web", "spec.backends[0].weight", "-1", "whole number"],
        ),
        (
            a_split("v1alpha2", "[{service: gone, weight: 1}, {service: web-v1, weight: half}]"),
            &["spec.backends[1].weight", "half"],
        ),
        (
            a_target(
                "{destination: {kind: ServiceAccount, name: x, namespace: bank}, rules: [{kind: TCPRoute, name: all}], sources: [{kind: ServiceAccount, name: a}]}",
            ),
            &[
                "TrafficTarget shop/buy",
                "spec.destination.namespace",
                "bank",
                "hint: put the TrafficTarget into namespace bank",
            ],
        ),
        (
            a_target(
                "{destination: {kind: Group, name: x}, rules: [{kind: Route, name: all}], sources: [{kind: User, name: a}]}",
            ),
            &[
                "3 errors",
                "spec.destination.kind",
                "spec.rules[0].kind",
                "spec.sources[0].kind",
                "expected HTTPRouteGroup, TCPRoute or UDPRoute",
            ],
        ),
        (
            object(
                "{apiVersion: specs.smi-spec.io/v1alpha4, kind: TCPRoute, metadata: {name: t, namespace: shop}, spec: {matches: {ports: [80, 70000]}}}",
            ),
            &["TCPRoute shop/t", "spec.matches.ports[1]", "70000", "1 to 65535"],
        ),
        (
            a_config("{access: {mode: lax}}"),
            &["MeshConfig default", "spec.access.mode", "\"lax\"", "enforce"],
        ),
        (a_config("{pathRegexEnd: ajar}"), &["spec.pathRegexEnd", "open or closed"]),
        (a_target("{destination: 5}"), &["TrafficTarget shop/buy", "spec.destination", "Malformed"]),
        (a_target("all"), &["TrafficTarget shop/buy", "spec"]),
    ];
    for (object, parts) in table {
        let response = created(&object);
        let message = refusal(&response);
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
}

/// Nothing may be refused for what another object lacks: GitOps applies in any order.
#[test]
fn what_may_come_later_is_admitted_with_a_warning() {
    let table: Vec<(Value, &[&str])> = vec![
        (
            a_target(
                "{destination: {kind: ServiceAccount, name: shop}, rules: [{kind: HTTPRouteGroup, name: later}], sources: [{kind: ServiceAccount, name: buyer}]}",
            ),
            &["TrafficTarget shop/buy", "spec.rules[0].name", "no HTTPRouteGroup later"],
        ),
        (
            a_target(
                "{destination: {kind: ServiceAccount, name: shop}, rules: [{kind: HTTPRouteGroup, name: routes, matches: [more]}], sources: [{kind: ServiceAccount, name: buyer}]}",
            ),
            &["spec.rules[0].matches[0]", "\"more\"", "it has all"],
        ),
        (a_split("v1alpha4", "[{service: web-v2, weight: 1}]"), &["spec.backends[0].service", "web-v2"]),
        (a_split("v1alpha4", "[]"), &["spec.backends", "no backend"]),
        (a_split("v1alpha4", "[{service: web-v1, weight: 0}]"), &["all weights are 0"]),
    ];
    for (object, parts) in table {
        let response = created(&object);
        let found = warnings(&response).join("\n");
        for part in parts {
            assert!(found.contains(part), "{part:?} is not in: {found}");
        }
    }
    let absent = object(
        "{apiVersion: split.smi-spec.io/v1alpha2, kind: TrafficSplit, metadata: {name: s, namespace: empty}, spec: {service: x, backends: [{service: z, weight: 1}]}}",
    );
    assert!(warnings(&created(&absent)).join("").contains("not found in namespace"));
}

#[test]
fn before_the_first_lists_nobody_is_warned_of_what_is_not_there() {
    let current = Current { inputs: Inputs::default(), read: false };
    let target = a_target(
        "{destination: {kind: ServiceAccount, name: a}, rules: [{kind: TCPRoute, name: later}], sources: [{kind: ServiceAccount, name: b}]}",
    );
    let response = answered(&review("CREATE", &target, &json!(null)), &current);
    assert_eq!(warnings(&response), [""; 0]);
    let empty = a_target("{destination: {kind: ServiceAccount, name: a}, rules: [], sources: []}");
    let response = answered(&review("CREATE", &empty, &json!(null)), &current);
    assert!(warnings(&response).join("").contains("no source"), "{response}");
    let wrong = a_group("[{name: a, pathRegex: '('}]");
    refusal(&answered(&review("CREATE", &wrong, &json!(null)), &current));
}

#[test]
fn a_change_that_leaves_the_spec_alone_is_never_refused() {
    let current = Current { inputs: harness(WORLD), read: true };
    let old = a_split("v1alpha4", "[{service: web-v1, weight: -1}]");
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"a": "b"});
    new["metadata"]["finalizers"] = json!([]);
    new["status"] = json!({"observedGeneration": 1});
    assert_eq!(warnings(&answered(&review("UPDATE", &new, &old), &current)), [""; 0]);
    // The version is not compared, only the content.
    new["apiVersion"] = json!("split.smi-spec.io/v1alpha2");
    assert_eq!(warnings(&answered(&review("UPDATE", &new, &old), &current)), [""; 0]);
    refusal(&answered(&review("CREATE", &new, &json!(null)), &current));
    // Fields beside the spec count as content: other versions have the content there.
    let mut beside = a_group("[]");
    beside.as_object_mut().unwrap().remove("spec");
    let old = beside.clone();
    beside["matches"] = json!([{"name": "a", "pathRegex": "("}]);
    refusal(&answered(&review("UPDATE", &beside, &old), &current));
    for operation in ["DELETE", "CONNECT", ""] {
        assert_eq!(
            warnings(&answered(&review(operation, &json!(null), &old), &current)),
            [""; 0],
            "{operation}"
        );
    }
}

#[test]
fn a_change_is_refused_for_what_it_brings_and_warned_of_what_was_there() {
    let current = Current { inputs: harness(WORLD), read: true };
    let old = a_group("[{name: a, pathRegex: '('}, {name: b}]");
    let more = a_group("[{name: b, pathRegex: /b}, {name: a, pathRegex: '('}]");
    let response = answered(&review("UPDATE", &more, &old), &current);
    assert!(warnings(&response).join("").contains("spec.matches[1].pathRegex"), "{response}");
    let worse = a_group("[{name: a, pathRegex: '('}, {name: b, pathRegex: '[b'}]");
    let response = answered(&review("UPDATE", &worse, &old), &current);
    let message = refusal(&response);
    assert!(message.contains("spec.matches[1].pathRegex") && !message.contains("matches[0]"), "{message}");
}

#[test]
fn other_kinds_pass() {
    for other in [
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}}),
        json!({"apiVersion": "example.org/v1", "kind": "TrafficSplit", "metadata": {"name": "p"}, "spec": 1}),
    ] {
        assert_eq!(warnings(&created(&other)), [""; 0], "{other}");
    }
}

#[test]
fn only_the_namespaces_that_count_are_looked_at() {
    let asked = RefCell::new(BTreeSet::new());
    let mut target = a_fine_target();
    target["spec"]["sources"] = json!([
        {"kind": "IdentityBinding", "name": "a", "namespace": "bank"}, {"kind": "ServiceAccount", "name": "b"},
        {"kind": "ServiceAccount", "name": "c", "namespace": "vault"},
    ]);
    let body = review("CREATE", &target, &json!(null)).to_string();
    let look = |namespaces: &BTreeSet<String>| {
        asked.borrow_mut().clone_from(namespaces);
        Current { inputs: Inputs::default(), read: true }
    };
    validation::answer(body.as_bytes(), look).unwrap();
    assert_eq!(asked.into_inner(), BTreeSet::from(["bank".to_owned(), "shop".to_owned()]));
    let all =
        harness(&(WORLD.to_owned() + "---\n" + &WORLD.replace("namespace: shop", "namespace: shopping")));
    let cut = referenced_objects(&all, &BTreeSet::from(["shop".to_owned()]));
    assert_eq!((all.services.len(), cut.services.len(), cut.pods.len()), (4, 2, 1));
    assert!(cut.services.keys().all(|(namespace, _)| namespace == "shop"));
}
