//! Generated clusters for the proof of access: a few workloads, and SMI objects that a user might have written about
//! them, wrong ones included. Names, paths and ports are few, so that objects overlap.

use serde_json::{Map, Value, json};

use crate::differential::{
    random::Random,
    routes::{group, ports},
    settings::settings,
};

/// The namespace of the destinations, and another one.
pub const SHOP: &str = "shop";
pub const OTHER: &str = "other";
/// The ServiceAccounts that are called.
pub const DESTINATIONS: [&str; 2] = ["api", "store"];
/// The ServiceAccounts that call.
pub const CALLERS: [(&str, &str); 5] =
    [(SHOP, "web"), (SHOP, "admin"), (SHOP, "default"), (OTHER, "web"), (OTHER, "job")];
/// The ports of every destination.
pub const HTTP_PORTS: [u16; 2] = [8080, 8081];
pub const TCP_PORTS: [u16; 2] = [9000, 9001];
/// Ports that declare no protocol, where proxies detect it: `undecided` keeps the rules from deciding it.
pub const DETECTED_PORTS: [u16; 2] = [7000, 7001];
/// Prefix of the names of the objects for these.
pub const UNDECIDED: &str = "undecided";

/// One set of objects.
pub struct Generated {
    pub seed: u64,
    pub index: u64,
    /// The ServiceAccounts that its targets are about.
    pub destinations: Vec<&'static str>,
    pub objects: Vec<Value>,
}

impl Generated {
    /// Generates cluster number `index` of a seed.
    pub fn generate(seed: u64, index: u64) -> Self {
        let mut random = Random::new(seed, index);
        let count = if random.percent(25) { 2 } else { 1 };
        let destinations = DESTINATIONS[..count].to_vec();
        let mut objects: Vec<Value> = DESTINATIONS.iter().map(|name| workload(name)).collect();
        objects.extend(callers(&mut random));
        if random.percent(35) {
            objects.push(binding(&mut random, SHOP, "b0"));
            objects.push(binding(&mut random, OTHER, "b0"));
        }
        objects.extend(settings(&mut random));
        objects.extend(undecided());
        for number in 0..random.between(1, 3) {
            objects.push(group(&mut random, SHOP, &format!("g{number}")));
        }
        if random.percent(30) {
            // A lookup of routes in the wrong namespace would find these.
            objects.push(group(&mut random, OTHER, "g0"));
            objects.push(ports(&mut random, "TCPRoute", OTHER, "t0"));
        }
        for number in 0..random.between(1, 3) {
            objects.push(ports(&mut random, "TCPRoute", SHOP, &format!("t{number}")));
        }
        objects.push(ports(&mut random, "UDPRoute", SHOP, "u0"));
        for number in 0..random.between(2, 5) {
            objects.push(target(&mut random, &format!("target{number}"), &destinations));
        }
        if random.percent(12) {
            objects.push(misshapen(&mut random));
        }
        Self { seed, index, destinations, objects }
    }
}

/// Returns objects as a file that `smidge` reads.
pub fn yaml(objects: &[Value]) -> String {
    let texts: Vec<String> = objects.iter().map(|object| serde_saphyr::to_string(object).unwrap()).collect();
    texts.join("---\n")
}

pub fn object(version: &str, kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    let mut metadata = json!({ "name": name });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec })
}

fn workload(name: &str) -> Value {
    let port = |name: String, number: &u16| json!({ "name": name, "containerPort": number });
    let http = HTTP_PORTS.iter().map(|number| port(format!("http-{number}"), number));
    let tcp = TCP_PORTS.iter().map(|number| port(format!("tcp-{number}"), number));
    let detected = DETECTED_PORTS.iter().map(|number| json!({ "containerPort": number }));
    let ports: Vec<Value> = http.chain(tcp).chain(detected).collect();
    let labels = json!({ "app": name });
    let containers = json!([{ "name": "app", "image": "app", "ports": ports }]);
    object(
        "apps/v1",
        "Deployment",
        SHOP,
        name,
        &json!({
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "serviceAccountName": name, "containers": containers },
            },
        }),
    )
}

/// Returns HTTP rules and TCP rules for the ports that declare nothing, for a caller that never calls.
fn undecided() -> Vec<Value> {
    let (access, specs) = ("access.smi-spec.io/v1alpha4", "specs.smi-spec.io/v1alpha4");
    let ports = json!({ "matches": { "ports": DETECTED_PORTS } });
    let matches = json!({ "matches": [{ "name": "any", "pathRegex": "/.*" }] });
    let mut all = vec![
        object(specs, "TCPRoute", SHOP, UNDECIDED, &ports),
        object(specs, "HTTPRouteGroup", SHOP, UNDECIDED, &matches),
    ];
    let tcp = json!({ "kind": "TCPRoute", "name": UNDECIDED });
    let http = json!({ "kind": "HTTPRouteGroup", "name": UNDECIDED });
    for destination in DESTINATIONS {
        let account = |name: &str| json!({ "kind": "ServiceAccount", "name": name, "namespace": SHOP });
        for (which, rules) in [("tcp", json!([tcp])), ("http", json!([tcp, http]))] {
            let name = format!("{UNDECIDED}-{which}-{destination}");
            let spec = json!({
                "destination": account(destination), "sources": [account(UNDECIDED)], "rules": rules,
            });
            all.push(object(access, "TrafficTarget", SHOP, &name, &spec));
        }
    }
    all
}

/// Generates pods of the callers, for bindings to select. An account may have pods with different labels.
fn callers(random: &mut Random) -> Vec<Value> {
    let mut all = Vec::new();
    for (number, (namespace, account)) in CALLERS.iter().enumerate() {
        for copy in 0..random.between(1, 2) {
            let labels = json!({ "role": random.pick(&["buyer", "buyer", "clerk"]), "of": namespace });
            let mut spec = json!({ "containers": [{ "name": "app", "image": "app" }] });
            if *account != "default" {
                spec["serviceAccountName"] = json!(account);
            }
            let template = json!({ "metadata": { "labels": labels }, "spec": spec });
            let spec = json!({ "selector": { "matchLabels": labels }, "template": template });
            all.push(object("apps/v1", "Deployment", namespace, &format!("caller{number}-{copy}"), &spec));
        }
    }
    all
}

fn binding(random: &mut Random, namespace: &str, name: &str) -> Value {
    let mut schemes = Map::new();
    if random.percent(45) {
        schemes.insert("serviceAccount".to_owned(), json!(random.pick(&["web", "admin", "job", "api", ""])));
    }
    if random.percent(45) {
        let labels = [
            json!({ "role": "buyer" }),
            json!({ "role": "buyer", "of": "shop" }),
            json!({ "role": "none" }),
            json!({}),
        ];
        schemes.insert(
            "podLabelSelector".to_owned(),
            json!({ "matchLabels": labels[random.below(labels.len())] }),
        );
    }
    if random.percent(40) {
        let written = [
            "spiffe://cluster.local/ns/other/sa/web",
            "cluster.local/ns/shop/sa/web",
            "cluster.local/ns/shop/sa/api",
            "spiffe://elsewhere/ns/shop/sa/admin",
            "ns/shop/sa/admin",
        ];
        schemes.insert("spiffeIdentities".to_owned(), json!([random.pick(&written), random.pick(&written)]));
    }
    let version = "access.smi-spec.io/v1alpha4";
    object(version, "IdentityBinding", namespace, name, &json!({ "schemes": schemes }))
}

/// Generates an object that is invalid for its kind. It has no effect on any other object.
fn misshapen(random: &mut Random) -> Value {
    let to = json!({ "kind": "ServiceAccount", "name": "api", "namespace": SHOP });
    let from = json!([{ "kind": "ServiceAccount", "name": "web", "namespace": SHOP }]);
    let rules = json!([{ "kind": "TCPRoute", "name": "t0" }]);
    let (access, specs) = ("access.smi-spec.io/v1alpha4", "specs.smi-spec.io/v1alpha4");
    match random.below(5) {
        0 => object(
            access,
            "TrafficTarget",
            SHOP,
            "odd",
            &json!({ "destination": to, "sources": from, "rules": {} }),
        ),
        1 => object(
            access,
            "TrafficTarget",
            SHOP,
            "odd",
            &json!({ "destination": to, "sources": "web", "rules": rules }),
        ),
        2 => object(
            access,
            "TrafficTarget",
            SHOP,
            "odd",
            &json!({ "destination": "api", "sources": from, "rules": rules }),
        ),
        3 => object(specs, "HTTPRouteGroup", SHOP, "g2", &json!({ "matches": "all" })),
        _ => object(access, "IdentityBinding", SHOP, "b9", &json!({ "schemes": ["web"] })),
    }
}

/// Generates a TrafficTarget about some of the destinations.
pub fn target(random: &mut Random, name: &str, destinations: &[&str]) -> Value {
    let namespace = if random.percent(95) { SHOP } else { OTHER };
    let called = random.pick(destinations);
    let mut destination = subject(random, SHOP, called, namespace);
    if random.percent(6) {
        let ports = [json!(8080), json!(8081), json!("8080"), json!(9000), json!("http"), json!(0)];
        destination["port"] = ports[random.below(ports.len())].clone();
    }
    let count = random.weighted(&[(5, "0"), (35, "1"), (60, "2")]).parse().unwrap();
    let sources: Vec<Value> = (0..count)
        .map(|_| {
            let (of, name) = CALLERS[random.below(CALLERS.len())];
            subject(random, of, name, namespace)
        })
        .collect();
    let count = random.weighted(&[(4, "0"), (45, "1"), (35, "2"), (16, "3")]).parse().unwrap();
    let rules: Vec<Value> = (0..count).map(|_| rule(random)).collect();
    let spec = json!({ "destination": destination, "sources": sources, "rules": rules });
    object("access.smi-spec.io/v1alpha4", "TrafficTarget", namespace, name, &spec)
}

/// Generates a subject, its namespace sometimes left out where that means the same, or not.
fn subject(random: &mut Random, namespace: &str, name: &str, own: &str) -> Value {
    let kind = random.weighted(&[(91, "ServiceAccount"), (6, "IdentityBinding"), (2, "Group"), (1, "User")]);
    let name = if kind == "IdentityBinding" { random.pick(&["b0", "b0", "b0", "b9"]) } else { name };
    let mut subject = json!({ "kind": kind, "name": name, "namespace": namespace });
    if random.percent(6) {
        subject["group"] =
            json!(random.pick(&["access.smi-spec.io", "", "access.smi-spec.io/v1alpha4", "apps"]));
    }
    if random.percent(if namespace == own { 60 } else { 3 }) {
        let absent = random.percent(70);
        subject["namespace"] = json!("");
        if absent {
            subject.as_object_mut().unwrap().remove("namespace");
        }
    }
    subject
}

fn rule(random: &mut Random) -> Value {
    let kinds =
        [(52, "HTTPRouteGroup"), (38, "TCPRoute"), (8, "UDPRoute"), (1, "GRPCRoute"), (1, "httproutegroup")];
    let kind = random.weighted(&kinds);
    let names: &[&str] = match kind {
        "TCPRoute" => &["t0", "t0", "t0", "t0", "t1", "t1", "t1", "t1", "t2", "t9"],
        "UDPRoute" => &["u0", "u9"],
        _ => &["g0", "g0", "g0", "g0", "g1", "g1", "g1", "g1", "g2", "g9"],
    };
    let mut rule = json!({ "kind": kind, "name": random.pick(names) });
    if kind == "HTTPRouteGroup" && random.percent(45) {
        let count = random.weighted(&[(6, "0"), (50, "1"), (44, "2")]).parse().unwrap();
        let names: Vec<&str> = (0..count)
            .map(|_| random.pick(&["m0", "m0", "m0", "m0", "m1", "m1", "m1", "m2", "m9"]))
            .collect();
        rule["matches"] = json!(names);
    }
    rule
}
