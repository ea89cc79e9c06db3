//! A small cluster of Services and pods, and generated SMI objects for it, as they are stored.

use proptest::{prelude::*, sample::subsequence};
use serde_json::{Value, json};

/// Settings, pods and Services of the cluster. `api` has two versions under two accounts.
pub const SCENARIO: &str = r"
apiVersion: smidge.mesh/v1alpha1
kind: MeshConfig
metadata: {name: default}
spec: {pathRegexEnd: open}
---
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: shop, labels: {app: api, version: v1}}
spec: {serviceAccountName: api, containers: [{name: app, image: app, ports: [{containerPort: 8080}, {containerPort: 9000}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-2, namespace: shop, labels: {app: api, version: v2}}
spec: {serviceAccountName: beta, containers: [{name: app, image: app, ports: [{containerPort: 8080}, {containerPort: 9000}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {serviceAccountName: web, containers: [{name: app, image: app}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: till, labels: {app: web}}
spec: {serviceAccountName: web, containers: [{name: app, image: app}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cron, namespace: till, labels: {app: cron}}
spec: {serviceAccountName: cron, containers: [{name: app, image: app}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 198.18.7.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: api-v1, namespace: shop}
spec: {clusterIP: 198.18.7.2, selector: {app: api, version: v1}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: api-v2, namespace: shop}
spec: {clusterIP: 198.18.7.3, selector: {app: api, version: v2}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9000}]}
";

/// Names of route groups, of which the last one never exists.
const GROUPS: &[&str] = &["g", "h", "gone"];
/// Names of port routes, of which the last one never exists.
const PORTS: &[&str] = &["r", "s", "gone"];
/// Names of matches, of which the last one never exists.
const MATCHES: &[&str] = &["m", "n", "gone"];

fn object(group: &str, kind: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": "shop", "labels": {"team": "a"}, "annotations": {"example.org/note": "kept"}});
    let mut object =
        json!({"apiVersion": format!("{group}/v1alpha4"), "kind": kind, "metadata": metadata, "spec": spec});
    remove_nulls(&mut object);
    object
}

/// Removes fields that are `null`, which are those that are absent.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(remove_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

fn maybe(often: f64, value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop::option::weighted(often, value).prop_map(|value| value.unwrap_or(Value::Null)).boxed()
}

fn words(words: &'static [&'static str], count: std::ops::RangeInclusive<usize>) -> BoxedStrategy<Value> {
    subsequence(words, count).prop_map(|words| json!(words)).boxed()
}

/// Returns the group of the kind, none, or an unknown one.
fn group_of(kind: &'static str) -> BoxedStrategy<Value> {
    let own = if kind == "ServiceAccount" { "" } else { "access.smi-spec.io" };
    maybe(0.3, prop::sample::select(vec![own, own, "foreign.example"]).prop_map(Value::from))
}

fn subject(subject: (&'static str, &'static str, Option<&'static str>)) -> BoxedStrategy<Value> {
    let (kind, name, namespace) = subject;
    group_of(kind)
        .prop_map(move |group| json!({"kind": kind, "name": name, "namespace": namespace, "group": group}))
        .boxed()
}

fn sources() -> BoxedStrategy<Value> {
    let all = vec![
        ("ServiceAccount", "web", None),
        ("ServiceAccount", "web", Some("till")),
        ("ServiceAccount", "cron", Some("till")),
        ("IdentityBinding", "people", None),
        ("ServiceAccount", "api", None),
        ("IdentityBinding", "gone", None),
    ];
    let some = subsequence(all, 0..=4).prop_shuffle();
    some.prop_flat_map(|some| some.into_iter().map(subject).collect::<Vec<_>>()).prop_map(Value::from).boxed()
}

fn destination() -> BoxedStrategy<Value> {
    let who = prop::sample::select(vec![
        ("ServiceAccount", "api", None),
        ("ServiceAccount", "api", Some("shop")),
        ("ServiceAccount", "beta", None),
        ("IdentityBinding", "both", None),
    ]);
    let port =
        maybe(0.4, prop::sample::select(vec![json!(8080), json!("8080"), json!(9000), json!(9090)]).boxed());
    (who.prop_flat_map(subject), port)
        .prop_map(|(mut destination, port)| {
            destination["port"] = port;
            destination
        })
        .boxed()
}

fn rule() -> BoxedStrategy<Value> {
    let http = (seldom_last(GROUPS), maybe(0.3, words(MATCHES, 0..=2)))
        .prop_map(|(name, matches)| json!({"kind": "HTTPRouteGroup", "name": name, "matches": matches}));
    let tcp = seldom_last(PORTS).prop_map(|name| json!({"kind": "TCPRoute", "name": name}));
    let udp = Just(json!({"kind": "UDPRoute", "name": "u"}));
    prop_oneof![4 => http, 4 => tcp, 1 => udp].boxed()
}

/// Returns any of the names, the last one seldom.
fn seldom_last(names: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![9 => prop::sample::select(&names[..names.len() - 1]), 1 => prop::sample::select(names)]
}

fn target(name: &'static str) -> BoxedStrategy<Value> {
    let rules = prop::collection::vec(rule(), 0..4);
    (destination(), rules, sources())
        .prop_map(move |(destination, rules, sources)| {
            let spec = json!({"destination": destination, "rules": rules, "sources": sources});
            object("access.smi-spec.io", "TrafficTarget", name, &spec)
        })
        .boxed()
}

fn http_match(name: &'static str) -> BoxedStrategy<Value> {
    let path = maybe(0.7, prop::sample::select(vec!["/a", "/b", "/a/.*"]).prop_map(Value::from));
    let headers = prop::sample::select(vec![
        json!([{"x-a": "1"}]),
        json!({"x-a": "1"}),
        json!([{"x-a": "1"}, {"x-b": "2"}]),
        json!({"x-b": "2.*", "host": "api"}),
    ]);
    (path, maybe(0.4, words(&["GET", "POST", "*"], 1..=2)), maybe(0.4, headers))
        .prop_map(move |(path, methods, headers)| {
            json!({"name": name, "pathRegex": path, "methods": methods, "headers": headers})
        })
        .boxed()
}

fn group(name: &'static str) -> BoxedStrategy<Value> {
    subsequence(vec!["m", "n", "o"], 0..=3)
        .prop_shuffle()
        .prop_flat_map(|names| names.into_iter().map(http_match).collect::<Vec<_>>())
        .prop_map(move |matches| {
            object("specs.smi-spec.io", "HTTPRouteGroup", name, &json!({"matches": matches}))
        })
        .boxed()
}

fn ports(kind: &'static str, name: &'static str) -> BoxedStrategy<Value> {
    subsequence(vec![8080, 9000, 9090], 0..=2)
        .prop_map(move |ports| object("specs.smi-spec.io", kind, name, &json!({"matches": {"ports": ports}})))
        .boxed()
}

fn binding(name: &'static str, schemes: &Value) -> Just<Value> {
    Just(object("access.smi-spec.io", "IdentityBinding", name, &json!({"schemes": schemes})))
}

fn split(name: &'static str) -> BoxedStrategy<Value> {
    let service = prop::sample::select(vec!["api", "api.shop", "api.shop.svc.cluster.local"]);
    let weight = prop_oneof![Just(0_u32), Just(1), Just(50), Just(1000), 0_u32..1000];
    let backends = subsequence(vec!["api-v1", "api-v2", "api", "gone"], 1..=3).prop_shuffle();
    let matches = maybe(
        0.5,
        subsequence(GROUPS, 0..=2).prop_map(|names| {
            names.into_iter().map(|name| json!({"kind": "HTTPRouteGroup", "name": name})).collect()
        }),
    );
    (service, backends, prop::collection::vec(weight, 3), matches)
        .prop_map(move |(service, backends, weights, matches)| {
            let backends: Vec<Value> = backends
                .iter()
                .zip(weights)
                .map(|(service, weight)| json!({"service": service, "weight": weight}))
                .collect();
            let spec = json!({"service": service, "backends": backends, "matches": matches});
            object("split.smi-spec.io", "TrafficSplit", name, &spec)
        })
        .boxed()
}

/// Returns SMI objects for the cluster, as they are stored.
pub fn any_objects() -> BoxedStrategy<Vec<Value>> {
    let fixed = [
        binding("people", &json!({"spiffeIdentities": ["cluster.local/ns/shop/sa/web"]})),
        binding("both", &json!({"serviceAccount": "api"})),
    ];
    let routes =
        [group("g"), group("h"), ports("TCPRoute", "r"), ports("TCPRoute", "s"), ports("UDPRoute", "u")];
    let policies = [target("t1"), target("t2"), target("t3"), split("s1"), split("s2")];
    let policies = policies.map(|policy| prop::option::weighted(0.8, policy));
    (fixed, routes, policies)
        .prop_map(|(fixed, routes, policies)| {
            fixed.into_iter().chain(routes).chain(policies.into_iter().flatten()).collect()
        })
        .boxed()
}
