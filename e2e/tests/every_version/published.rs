//! Shapes that SMI has published, each with all of its fields.

use serde_json::{Value, json};

use super::{ACCESS, SPECS, SPLIT};

/// Group, version, kind, and the fields beside the metadata.
pub type Shape = (&'static str, &'static str, &'static str, Value);

/// Returns every shape of every kind and version.
pub fn published() -> Vec<Shape> {
    [targets(), bindings(), groups(), routes(), splits()].concat()
}

fn account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": "shop"})
}

fn targets() -> Vec<Shape> {
    let of = |version, fields| (ACCESS, version, "TrafficTarget", fields);
    let at = |port: Value| json!({"kind": "ServiceAccount", "name": "shop", "port": port});
    let shop = json!({"kind": "ServiceAccount", "name": "shop"});
    let http = json!({"kind": "HTTPRouteGroup", "name": "routes", "matches": ["a", "b"]});
    let tcp = json!({"kind": "TCPRoute", "name": "any"});
    let udp = json!({"kind": "UDPRoute", "name": "any"});
    let sources = json!([account("buyer"), account("reader")]);
    let bound = |name| json!({"group": ACCESS, "kind": "IdentityBinding", "name": name, "namespace": "shop"});
    vec![
        of("v1alpha1", json!({"destination": at(json!(8080)), "specs": [http, tcp], "sources": sources})),
        of("v1alpha1", json!({"destination": at(json!("8080")), "specs": [http], "sources": sources})),
        of("v1alpha1", json!({"destination": shop, "specs": [tcp], "sources": sources})),
        of(
            "v1alpha2",
            json!({"spec": {"destination": at(json!(8080)), "rules": [http, tcp], "sources": sources}}),
        ),
        of("v1alpha2", json!({"spec": {"destination": shop, "rules": [http], "sources": sources}})),
        of("v1alpha3", json!({"spec": {"destination": shop, "rules": [http, tcp, udp], "sources": sources}})),
        of("v1alpha4", json!({"spec": {"destination": shop, "rules": [udp, http], "sources": sources}})),
        of(
            "v1alpha4",
            json!({"spec": {"destination": {"group": ACCESS, "kind": "IdentityBinding", "name": "shop"}, "rules": [tcp], "sources": [account("buyer"), bound("reader")]}}),
        ),
    ]
}

fn bindings() -> Vec<Shape> {
    let of = |schemes| (ACCESS, "v1alpha4", "IdentityBinding", json!({"spec": {"schemes": schemes}}));
    vec![
        of(json!({"spiffeIdentities": ["cluster.local/ns/shop/sa/buyer"], "serviceAccount": "buyer"})),
        of(json!({"podLabelSelector": {"matchLabels": {"app": "buyer"}}})),
    ]
}

fn groups() -> Vec<Shape> {
    let beside = |version, matches: &Value| (SPECS, version, "HTTPRouteGroup", json!({"matches": matches}));
    let within =
        |version, matches: &Value| (SPECS, version, "HTTPRouteGroup", json!({"spec": {"matches": matches}}));
    let plain = json!([{"name": "a", "pathRegex": "/a/.*", "methods": ["GET", "POST"]}]);
    let list =
        json!([{"name": "a", "pathRegex": "/a", "methods": ["*"], "headers": [{"x": "1"}, {"y": "2.*"}]}]);
    let map = json!([{"name": "a", "headers": {"x": "1", "y": "2.*"}}, {"name": "b", "pathRegex": "/b"}]);
    vec![
        beside("v1alpha1", &plain),
        beside("v1alpha2", &list),
        beside("v1alpha2", &map),
        within("v1alpha3", &list),
        within("v1alpha3", &map),
        within("v1alpha4", &plain),
        within("v1alpha4", &list),
        within("v1alpha4", &map),
    ]
}

fn routes() -> Vec<Shape> {
    let ports = |ports: Value| json!({"spec": {"matches": {"ports": ports}}});
    vec![
        (SPECS, "v1alpha1", "TCPRoute", json!({})),
        (SPECS, "v1alpha2", "TCPRoute", json!({})),
        (SPECS, "v1alpha3", "TCPRoute", json!({"spec": {}})),
        (SPECS, "v1alpha4", "TCPRoute", ports(json!([80, 443]))),
        (SPECS, "v1alpha4", "TCPRoute", ports(json!([]))),
        (SPECS, "v1alpha4", "UDPRoute", ports(json!([53]))),
    ]
}

fn splits() -> Vec<Shape> {
    let of = |version, one: Value, two: Value| {
        let backends = json!([{"service": "v1", "weight": one}, {"service": "v2", "weight": two}]);
        (SPLIT, version, "TrafficSplit", json!({"spec": {"service": "web.shop", "backends": backends}}))
    };
    let matched = |mut shape: Shape| {
        if let Some(spec) = shape.3.pointer_mut("/spec").and_then(Value::as_object_mut) {
            spec.insert("matches".to_owned(), json!([{"kind": "HTTPRouteGroup", "name": "beta"}]));
        }
        shape
    };
    vec![
        of("v1alpha1", json!("500m"), json!("1")),
        of("v1alpha1", json!(90), json!(10)),
        of("v1alpha1", json!("90"), json!("1e1")),
        of("v1alpha2", json!(0), json!(1)),
        matched(of("v1alpha3", json!(1), json!(3))),
        of("v1alpha4", json!(1000), json!(1)),
        matched(of("v1alpha4", json!(0), json!(100))),
    ]
}

/// Returns true if `seen` has the shape of `version`, where versions differ.
pub fn is_shaped(kind: &str, version: &str, seen: &Value) -> bool {
    let has = |place: &str| seen.pointer(place).is_some();
    match (kind, version) {
        ("TrafficTarget", "v1alpha1") | ("HTTPRouteGroup", "v1alpha1" | "v1alpha2") => !has("/spec"),
        ("TrafficSplit", "v1alpha1" | "v1alpha2") => !has("/spec/matches"),
        ("TrafficTarget" | "HTTPRouteGroup" | "TrafficSplit", _) => has("/spec"),
        _ => true,
    }
}
