//! Conversions by hand: what people and tools do to objects.

use serde_json::{Value, json};
use smidge_crds::conversion::{NARROWED_BY, convert, to_hub};

use super::at;

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

pub fn split(version: &str, rest: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: split.smi-spec.io/{version}, kind: TrafficSplit, metadata: {{name: s}}, {rest}}}"
    ))
}

pub fn target(version: &str, rest: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: access.smi-spec.io/{version}, kind: TrafficTarget, metadata: {{name: t}}, {rest}}}"
    ))
}

pub fn routes(version: &str, rest: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: specs.smi-spec.io/{version}, kind: HTTPRouteGroup, metadata: {{name: g}}, {rest}}}"
    ))
}

pub fn tcp(version: &str, rest: &str) -> Value {
    yaml(&format!("{{apiVersion: specs.smi-spec.io/{version}, kind: TCPRoute, metadata: {{name: r}}{rest}}}"))
}

fn weights(split: &Value) -> Vec<Value> {
    split["spec"]["backends"].as_array().unwrap().iter().map(|backend| backend["weight"].clone()).collect()
}

#[test]
fn a_tool_of_v1alpha1_shifts_weights_and_the_matches_survive() {
    let stored = split(
        "v1alpha4",
        "spec: {service: web, matches: [{kind: HTTPRouteGroup, name: beta}], backends: [{service: old, weight: 100}, {service: new, weight: 0}]}",
    );
    let mut read = at(&stored, "v1alpha1");
    assert_eq!(
        read["spec"],
        json!({"service": "web", "backends": [{"service": "old", "weight": 100}, {"service": "new", "weight": 0}]})
    );
    // As typed clients write quantities.
    read["spec"]["backends"][0]["weight"] = json!("90");
    read["spec"]["backends"][1]["weight"] = json!("10");
    let written = at(&read, "v1alpha4");
    assert_eq!(written["spec"]["matches"], stored["spec"]["matches"]);
    assert_eq!(weights(&written), [json!(90), json!(10)]);
    assert_eq!(at(&written, "v1alpha1"), read, "the tool finds what it wrote");
}

#[test]
fn matches_of_all_backends_do_not_take_the_place_of_the_splits() {
    let (x, y) =
        (json!([{"kind": "HTTPRouteGroup", "name": "x"}]), json!([{"kind": "HTTPRouteGroup", "name": "y"}]));
    let mut old = split(
        "v1alpha1",
        "spec: {service: web, backends: [{service: a, weight: 1}, {service: b, weight: 1}]}",
    );
    // Not the same in both, so they are no matches of the split.
    old["spec"]["backends"][0]["matches"] = x.clone();
    old["spec"]["backends"][1]["matches"] = y.clone();
    let mut stored = at(&old, "v1alpha4");
    stored["spec"]["matches"] = y;
    stored["spec"]["backends"][1]["matches"] = x;
    assert_eq!(at(&at(&stored, "v1alpha1"), "v1alpha4")["spec"], stored["spec"]);
}

#[test]
fn quantities_become_whole_numbers_of_the_same_ratio() {
    for (written, expected) in [
        ("[1, 500m]", vec![json!(1000), json!(500)]),
        ("[900m, 100m]", vec![json!(900), json!(100)]),
        ("['1', '99']", vec![json!(1), json!(99)]),
        ("[1k, 1Ki]", vec![json!(1000), json!(1024)]),
        ("[0.1, 0.9, 0]", vec![json!(100), json!(900), json!(0)]),
        ("[1n, 1]", vec![json!(1), json!(1_000_000_000)]),
        ("[1n, 9E]", vec![json!(1), json!(9_000_000_000_000_000_000_i64)]),
        ("[3n, 9E, 6n]", vec![json!(1), json!(9_000_000_000_000_000_000_i64), json!(1)]),
        ("[500m, ~, half, -1]", vec![json!(500), Value::Null, json!("half"), json!(-1)]),
        ("[2.0, 1]", vec![json!(2.0), json!(1)]),
    ] {
        let backends = yaml(written);
        let backends: Vec<Value> = backends
            .as_array()
            .unwrap()
            .iter()
            .map(|weight| json!({"service": "a", "weight": weight}))
            .collect();
        for version in ["v1alpha1", "v1alpha2"] {
            let mut object = split(version, "spec: {service: web}");
            object["spec"]["backends"] = json!(backends);
            let hub = to_hub(&object).unwrap();
            if written == "[1n, 9E]" || written == "[3n, 9E, 6n]" {
                // Beyond 64 bits the ratio gives way, but nothing becomes nothing.
                assert!(weights(&hub).iter().all(|weight| weight.as_i64().unwrap() > 0), "{hub}");
            } else {
                assert_eq!(weights(&hub), expected, "{written} at {version}");
            }
        }
    }
}

#[test]
fn a_quantity_is_shown_as_long_as_its_ratio_holds() {
    let object = split(
        "v1alpha1",
        "spec: {service: web, backends: [{service: a, weight: 1k}, {service: b, weight: '500'}]}",
    );
    let mut newer = at(&object, "v1alpha2");
    assert_eq!(weights(&newer), [json!(1000), json!(500)]);
    newer["spec"]["backends"][1]["weight"] = json!(250);
    assert_eq!(weights(&at(&newer, "v1alpha1")), [json!("1k"), json!(250)], "its text says what it is");

    let object = split(
        "v1alpha1",
        "spec: {service: web, backends: [{service: a, weight: 1}, {service: b, weight: 500m}]}",
    );
    let mut newer = at(&object, "v1alpha2");
    newer["spec"]["backends"][1]["weight"] = json!(250);
    assert_eq!(
        weights(&at(&newer, "v1alpha1")),
        [json!(1000), json!(250)],
        "beside 500m, 250 would be 500 times as much"
    );
    newer["spec"]["backends"].as_array_mut().unwrap().remove(1);
    assert_eq!(weights(&at(&newer, "v1alpha1")), [json!(1000)]);
}

#[test]
fn a_destinations_port_is_kept_where_there_is_no_field_for_it() {
    let object = target(
        "v1alpha1",
        "destination: {kind: ServiceAccount, name: web, port: '8080'}, specs: [{kind: TCPRoute, name: all}], sources: [{kind: ServiceAccount, name: a}]",
    );
    let mut newer = at(&object, "v1alpha3");
    assert_eq!(newer["spec"]["destination"], json!({"kind": "ServiceAccount", "name": "web"}));
    assert_eq!(newer["metadata"]["annotations"][NARROWED_BY], "{\"port\":\"8080\"}");
    newer["spec"]["destination"]["name"] = json!("shop");
    newer["spec"]["sources"] = json!([]);
    assert_eq!(
        at(&newer, "v1alpha4")["spec"]["destination"]["port"],
        "8080",
        "whoever it is, it stays narrow"
    );
    let back = at(&newer, "v1alpha1");
    assert_eq!(back["destination"], json!({"kind": "ServiceAccount", "name": "shop", "port": "8080"}));
    assert_eq!((&back["specs"], &back["sources"]), (&object["specs"], &json!([])));
}

#[test]
fn headers_stay_with_their_match_whatever_else_is_edited() {
    let object = routes(
        "v1alpha4",
        "spec: {matches: [{name: a, pathRegex: /a, headers: [{x-a: '1'}]}, {name: b, pathRegex: /b}, {name: c, pathRegex: /c, headers: {x-c: '1'}}]}",
    );
    let old = at(&object, "v1alpha1");
    assert_eq!(
        old["matches"],
        json!([{"name": "a", "pathRegex": "/a"}, {"name": "b", "pathRegex": "/b"}, {"name": "c", "pathRegex": "/c"}])
    );
    let headers = |edit: &dyn Fn(&mut Vec<Value>)| -> Vec<(String, Value)> {
        let mut old = old.clone();
        edit(old["matches"].as_array_mut().unwrap());
        let hub = at(&old, "v1alpha4");
        let matches = hub["spec"]["matches"].as_array().unwrap();
        matches.iter().map(|one| (one["name"].as_str().unwrap().to_owned(), one["headers"].clone())).collect()
    };
    let (a, c) = (json!([{"x-a": "1"}]), json!({"x-c": "1"}));
    let list = |all: &[(&str, &Value)]| -> Vec<(String, Value)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect()
    };
    let none = Value::Null;
    assert_eq!(
        headers(&|all| all[0]["pathRegex"] = json!("/b")),
        list(&[("a", &a), ("b", &none), ("c", &c)]),
        "edited"
    );
    assert_eq!(
        headers(&|all| all[0]["name"] = json!("z")),
        list(&[("z", &a), ("b", &none), ("c", &c)]),
        "renamed"
    );
    assert_eq!(headers(&|all| all.swap(0, 2)), list(&[("c", &c), ("b", &none), ("a", &a)]), "moved");
    assert_eq!(headers(&|all| drop(all.remove(0))), list(&[("b", &none), ("c", &c)]), "removed");
    assert_eq!(
        headers(&|all| all.insert(0, json!({"name": "n", "pathRegex": "/a"}))),
        list(&[("n", &none), ("a", &a), ("b", &none), ("c", &c)]),
        "added"
    );
    assert_eq!(
        headers(&|all| all[0] = json!({"name": "n", "pathRegex": "/n"})),
        list(&[("n", &none), ("b", &none), ("c", &c)]),
        "replaced by another"
    );
}

#[test]
fn matches_that_differ_in_headers_only_keep_them_apart() {
    let object = routes(
        "v1alpha3",
        "spec: {matches: [{name: a}, {name: a, headers: {x: '1'}}, {name: a, headers: {x: '2'}}]}",
    );
    let mut old = at(&object, "v1alpha1");
    assert_eq!(at(&old, "v1alpha3"), object);
    old["matches"][1]["pathRegex"] = json!("/b");
    let edited = at(&old, "v1alpha4");
    let headers: Vec<_> =
        edited["spec"]["matches"].as_array().unwrap().iter().map(|one| &one["headers"]["x"]).collect();
    assert_eq!(headers, [&Value::Null, &json!("1"), &json!("2")]);
    // Nobody can tell which of those that look alike is gone.
    old["matches"] = json!([{"name": "a"}]);
    assert_eq!(
        at(&old, "v1alpha4")["spec"]["matches"][0]["headers"]["x"],
        "1",
        "what is left keeps what narrows"
    );
}

#[test]
fn ports_are_kept_where_there_is_no_field_for_them() {
    let object = tcp("v1alpha4", ", spec: {matches: {name: n, ports: [80, 443]}}");
    assert_eq!(at(&object, "v1alpha3")["spec"], json!({}));
    assert_eq!(at(&object, "v1alpha2").get("spec"), None);
    assert_eq!(at(&tcp("v1alpha1", ""), "v1alpha4")["spec"], json!({"matches": {"ports": []}}));
    assert_eq!(at(&tcp("v1alpha3", ", spec: {}"), "v1alpha4")["spec"], json!({"matches": {"ports": []}}));
    // Somebody touches the object at the version that sees no ports.
    let mut old = at(&object, "v1alpha2");
    old["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(at(&old, "v1alpha4")["spec"], object["spec"]);
}

#[test]
fn what_cannot_be_converted_is_named_with_its_field() {
    let error = |object: Value, to: &str| convert(&object, to).unwrap_err().to_string();
    let good = split("v1alpha4", "spec: {}");
    assert_eq!(
        error(good.clone(), "split.smi-spec.io/v1beta1"),
        "cannot convert TrafficSplit s: apiVersion \"split.smi-spec.io/v1beta1\" is not served: expected \
         split.smi-spec.io/v1alpha4 or split.smi-spec.io/v1alpha3 or split.smi-spec.io/v1alpha2 or split.smi-spec.io/v1alpha1"
    );
    assert!(error(good.clone(), "specs.smi-spec.io/v1alpha4").contains("is not served"));
    let mut bad = good.clone();
    bad["metadata"] = json!({"name": "s", "namespace": "shop", "annotations": ["x"]});
    assert_eq!(
        error(bad, "split.smi-spec.io/v1alpha1"),
        "cannot convert TrafficSplit shop/s: metadata.annotations is a list: expected a map"
    );
    assert_eq!(
        error(json!([]), "split.smi-spec.io/v1alpha1"),
        "cannot convert an object: it is a list: expected a map"
    );
    assert!(
        error(json!({"kind": "Pod", "apiVersion": "v1"}), "v1")
            .contains("expected one of the kinds and groups of SMI")
    );
    assert!(to_hub(&json!(1)).is_err() && to_hub(&json!({"kind": "TrafficSplit"})).is_err());
}

#[test]
fn large_objects_convert_in_proportion_to_their_size() {
    // A quadratic way would take minutes here.
    let matches: Vec<Value> = (0..50_000)
        .map(|n| json!({"name": format!("m{}", n % 7), "headers": {"x": format!("{n}")}}))
        .collect();
    let mut object = routes("v1alpha3", "spec: {}");
    object["spec"]["matches"] = json!(matches);
    let old = at(&object, "v1alpha1");
    assert_eq!(at(&old, "v1alpha3"), object);
    let backends: Vec<Value> =
        (0..50_000).map(|n| json!({"service": format!("s{}", n % 7), "weight": format!("{n}m")})).collect();
    let mut object = split("v1alpha1", "spec: {service: a}");
    object["spec"]["backends"] = json!(backends);
    let newer = at(&object, "v1alpha4");
    assert_eq!(weights(&newer)[49_999], json!(49_999));
    assert!(newer["metadata"].get("annotations").is_none(), "form must not fill the room for annotations");
}

/// The API server refuses an object whose annotations are longer, and the list that it is in.
fn length_of_annotations(object: &Value) -> usize {
    let annotations = object["metadata"]["annotations"].as_object().into_iter().flatten();
    annotations.map(|(name, text)| name.len() + text.as_str().unwrap().len()).sum()
}

#[test]
fn annotations_have_room_whatever_else_is_there() {
    const ROOM: usize = 256 * 1024;
    for others in [0, 100 * 1024, 200 * 1024, ROOM - 5] {
        for size in [10, 60 * 1024, 150 * 1024, 300 * 1024] {
            let mut object = routes("v1alpha4", "spec: {matches: [{name: a}, {name: b, headers: {x: '1'}}]}");
            object["metadata"]["annotations"] = json!({"note": "n".repeat(others)});
            object["spec"]["matches"][1]["headers"]["x"] = json!("1".repeat(size));
            // A form that only its text brings back: what does not count is part of it.
            let mut mixed = object.clone();
            mixed["matches"] = json!([{"name": "y".repeat(size)}]);
            for object in [object, mixed] {
                let old = at(&object, "v1alpha1");
                let length = length_of_annotations(&old);
                assert!(length <= ROOM, "{length} beside {others} for {size}");
                let is_hidden = old["metadata"]["annotations"].get(NARROWED_BY).is_some();
                assert_eq!(
                    is_hidden,
                    old["matches"][1].get("headers").is_none(),
                    "neither lost nor said twice"
                );
                assert_eq!(is_hidden, others + size + 150 < ROOM, "{others} {size}");
                let back = at(&old, "v1alpha4");
                assert_eq!(to_hub(&back).unwrap()["spec"], to_hub(&object).unwrap()["spec"]);
                if object.get("matches").is_none() {
                    assert_eq!(back, object);
                }
            }
        }
    }
}
