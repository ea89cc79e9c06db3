//! Annotations of ours that somebody made up.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::objects::{Oddity, VERSIONS, any_object, weight};

/// An annotation of ours that nobody but a conversion has written.
pub fn forged() -> impl Strategy<Value = String> {
    let subject = json!([["a", "", "foreign.example"], ["b", "0000000000000000", "x"], ["a"], 1]);
    let headers = json!([["m", "", {"x-forged": "1"}], ["n", "cbf29ce484222325", [{"x-forged": "2"}]], []]);
    let words = vec![
        String::new(),
        "{}".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{\"port\":9}".to_owned(),
        "{\"port\":null}".to_owned(),
        "{\"port\":[9]}".to_owned(),
        json!({"destinationGroup": "foreign.example", "sourceGroups": subject}).to_string(),
        json!({"headers": headers}).to_string(),
        json!({"ports": [9], "name": "x", "matches": {"ports": []}}).to_string(),
        json!({"matches": {"ports": ["all"]}}).to_string(),
        json!({"matches": [{"kind": "HTTPRouteGroup", "name": "forged"}]}).to_string(),
        json!({"matches": [], "backendMatches": [["one", "", [1]]]}).to_string(),
    ];
    prop_oneof![4 => prop::sample::select(words), 1 => ".*"]
}

/// A form that somebody made up: places, pieces, weights and texts that fit or do not.
pub fn forged_form() -> impl Strategy<Value = String> {
    let places = prop::collection::btree_map(
        prop::sample::select(vec!["destination", "rules", "sources", "port", "matches", "ports"]),
        prop::sample::select(vec![
            "destination",
            "spec.destination",
            "rules",
            "specs",
            "spec.specs",
            "spec.rules",
            "sources",
            "port",
            "spec.port",
            "matches",
            "spec.matches",
            "spec.routes",
            "spec.ports",
            "spec.backends[].matches",
            "metadata.name",
            "status",
            "",
        ]),
        0..4,
    );
    let shown = prop::collection::vec(
        prop::sample::select(vec![
            "port",
            "destinationGroup",
            "sourceGroups",
            "headers",
            "ports",
            "name",
            "matches",
            "backendMatches",
        ]),
        0..4,
    );
    let weights = prop::collection::vec(
        (prop::sample::select(vec!["one", "two", ""]), weight(Oddity::Wild, "v1alpha1")),
        0..4,
    );
    let text = prop::option::weighted(0.3, any_object(Oddity::Wild));
    let form = (places, shown, weights, text).prop_map(|(places, shown, weights, text)| {
        let mut form = json!({"places": places, "shown": shown, "weights": weights});
        if let Some(Value::Object(mut text)) = text {
            text.retain(|name, _| !["apiVersion", "kind", "metadata", "status"].contains(&name.as_str()));
            form["text"] = Value::Object(text);
        }
        form
    });
    prop::collection::btree_map(prop::sample::select(&VERSIONS[..]), form, 0..3)
        .prop_map(|forms| json!(forms).to_string())
}
