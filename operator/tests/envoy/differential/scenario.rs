//! Generated clusters for the proof of splits: Services over a few pods, and TrafficSplits that a user might have
//! written about them, wrong ones included. One pod calls, and every Service may be called.

use serde_json::{Value, json};

use crate::differential::{
    generated::{OTHER, SHOP, object},
    random::Random,
    routes::group,
    shares::Scenario,
};

/// The workload that calls.
pub const CALLER: &str = "caller";
/// The Services that are called.
pub const ROOTS: [&str; 2] = ["web", "front"];
/// Services that only splits send to. `b4` has no pods.
const BACKENDS: [&str; 5] = ["b0", "b1", "b2", "b3", "b4"];
/// The pods behind the Services.
pub const PODS: u8 = 6;
/// The Services' ports: HTTP and TCP.
pub const HTTP: u16 = 80;
pub const TCP: u16 = 90;
/// Name of an HTTP port that declares no protocol.
pub const UNDECLARED: &str = "web";
/// The pods' own ports.
pub const HTTP_PORTS: [u16; 2] = [8080, 8081];
pub const TCP_PORTS: [u16; 2] = [9000, 9001];

/// The address of a pod.
pub fn pod_address(number: u8) -> [u8; 4] {
    [198, 19, 1, number + 1]
}

/// Generates cluster number `index` of a seed.
pub fn scenario(seed: u64, index: u64) -> Vec<Value> {
    let mut random = Random::new(seed ^ 0x0005_9117_70e5, index);
    let mut objects: Vec<Value> = (0..PODS).map(|number| pod(&mut random, number)).collect();
    objects.push(calling_pod());
    for (number, name) in ROOTS.iter().chain(&BACKENDS).enumerate() {
        objects.push(service(&mut random, number, name));
    }
    objects.extend(settings(&mut random));
    for number in 0..2 {
        objects.push(group(&mut random, SHOP, &format!("g{number}")));
    }
    for number in 0..random.between(2, 4) {
        let split = split(&mut random, number);
        // A second split with the same name would replace the first.
        let is_same = |other: &Value| {
            other["kind"] == split["kind"] && other["metadata"]["name"] == split["metadata"]["name"]
        };
        if !objects.iter().any(is_same) {
            objects.push(split);
        }
    }
    if random.percent(20) {
        // A split does not affect the Services of another namespace.
        let backends = json!([{ "service": "b0", "weight": 1 }]);
        let spec = json!({ "service": "web.shop", "backends": backends });
        objects.push(object("split.smi-spec.io/v1alpha4", "TrafficSplit", OTHER, "web", &spec));
    }
    if random.percent(40) {
        undeclare(&mut objects);
    }
    objects
}

/// Takes the protocols out of the names of all ports, so that proxies detect them. A split by matches would make the
/// TCP ports HTTP as well: then these stay declared.
fn undeclare(objects: &mut [Value]) {
    let splits = ROOTS.iter().flat_map(|called| Scenario(objects).splits(called));
    let matches = splits.into_iter().any(|split| split["spec"].get("matches").is_some());
    let services = objects.iter_mut().filter(|object| object["kind"] == "Service");
    for port in services.flat_map(|service| service["spec"]["ports"].as_array_mut().into_iter().flatten()) {
        if port["port"] == HTTP {
            port["name"] = json!(UNDECLARED);
        } else if !matches {
            port["name"] = json!("raw");
        }
    }
}

/// Generates the settings. Where access is enforced, every pod may be called: the proof of access covers denials.
fn settings(random: &mut Random) -> Vec<Value> {
    let mode = random.weighted(&[(40, "permissive"), (40, "enforce"), (20, "audit")]);
    let end = random.pick(&["open", "closed"]);
    let spec = json!({ "access": { "mode": mode }, "pathRegexEnd": end });
    let mut all = vec![object("smidge.mesh/v1alpha1", "MeshConfig", "", "default", &spec)];
    if mode == "enforce" {
        let every = json!({ "matches": { "ports": [] } });
        let any = json!({ "matches": [{ "name": "any", "pathRegex": "/.*" }] });
        all.push(object("specs.smi-spec.io/v1alpha4", "TCPRoute", SHOP, "every", &every));
        all.push(object("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", SHOP, "every", &any));
        for number in 0..PODS {
            let account = |name: &str| json!({ "kind": "ServiceAccount", "name": name, "namespace": SHOP });
            // Rules of both kinds leave the protocols of ports that declare none to detection.
            for kind in ["TCPRoute", "HTTPRouteGroup"] {
                let spec = json!({
                    "destination": account(&format!("s{number}")),
                    "sources": [account(CALLER)],
                    "rules": [{ "kind": kind, "name": "every" }],
                });
                let name = format!("{}-{number}", kind.to_lowercase());
                all.push(object("access.smi-spec.io/v1alpha4", "TrafficTarget", SHOP, &name, &spec));
            }
        }
    }
    all
}

/// Generates a pod. The first is always ready and in the mesh, so that the mesh is not empty.
fn pod(random: &mut Random, number: u8) -> Value {
    let name = format!("p{number}");
    let mut labels = json!({ "app": name, "half": if number < 3 { "one" } else { "two" } });
    let state = if number == 0 { 0 } else { random.below(100) };
    if state >= 96 {
        labels["smidge.mesh/inject"] = json!("disabled");
    }
    let ready = if (90..96).contains(&state) { "False" } else { "True" };
    let [http, tcp] = [HTTP_PORTS, TCP_PORTS].map(|of| of[random.below(2)]);
    let ports = json!([{ "name": "http", "containerPort": http }, { "name": "tcp", "containerPort": tcp }]);
    let address = pod_address(number).map(|part| part.to_string()).join(".");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": SHOP, "labels": labels },
        "spec": {
            "serviceAccountName": format!("s{number}"),
            "containers": [{ "name": "app", "image": "app", "ports": ports }],
        },
        "status": {
            "podIP": address, "podIPs": [{ "ip": address }],
            "conditions": [{ "type": "Ready", "status": ready }],
        },
    })
}

fn calling_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("{CALLER}-0"), "namespace": SHOP },
        "spec": { "serviceAccountName": CALLER, "containers": [{ "name": "app", "image": "app" }] },
        "status": { "podIP": "198.19.2.1", "podIPs": [{ "ip": "198.19.2.1" }] },
    })
}

fn service(random: &mut Random, number: usize, name: &str) -> Value {
    let is_root = ROOTS.contains(&name);
    let selector = match random.below(10) {
        _ if name == "b4" => json!({ "app": "nobody" }),
        // A root needs a pod of the mesh, otherwise the mesh does not handle its calls.
        _ if is_root && random.percent(50) => json!({ "app": "p0" }),
        _ if is_root => json!({ "half": "one" }),
        0 => json!({ "half": "two" }),
        _ => json!({ "app": format!("p{}", number - ROOTS.len() + 1) }),
    };
    let target = |random: &mut Random, of: [u16; 2], name: &str| match random.below(3) {
        2 => json!(name),
        which => json!(of[which]),
    };
    let mut ports = Vec::new();
    if is_root || random.percent(92) {
        let target = target(random, HTTP_PORTS, "http");
        let name = random.pick(&["http", "http-web", "grpc"]);
        ports.push(json!({ "name": name, "port": HTTP, "targetPort": target }));
    }
    if is_root || random.percent(80) || ports.is_empty() {
        ports.push(json!({ "name": "tcp", "port": TCP, "targetPort": target(random, TCP_PORTS, "tcp") }));
    }
    let address = format!("198.18.1.{}", number + 1);
    let spec = json!({ "clusterIP": address, "clusterIPs": [address], "selector": selector, "ports": ports });
    object("v1", "Service", SHOP, name, &spec)
}

fn split(random: &mut Random, number: usize) -> Value {
    // Each called Service usually has a split; further splits conflict with these.
    let root = ROOTS.get(number).copied();
    let root = root.unwrap_or_else(|| random.weighted(&[(40, "web"), (40, "front"), (20, "b1")]));
    let mut name = format!("split{number}");
    let written = match random.below(12) {
        0 => format!("{root}.shop"),
        1 => format!("{root}.shop.svc"),
        2 => format!("{root}.shop.svc.cluster.local"),
        3 => format!("{root}.shop.svc.cluster.local."),
        4 => {
            // A host name: the split has the name of the Service.
            root.clone_into(&mut name);
            "www.example.org".to_owned()
        }
        5 => format!("{root}.other"),
        _ => root.to_owned(),
    };
    let count =
        random.weighted(&[(3, "0"), (8, "1"), (30, "2"), (25, "3"), (18, "4"), (16, "5")]).parse().unwrap();
    let is_nothing = random.percent(6);
    let backends: Vec<Value> = (0..count)
        .map(|_| {
            let service = if random.percent(16) {
                root
            } else {
                random.weighted(&[(22, "b0"), (22, "b1"), (20, "b2"), (20, "b3"), (8, "b4"), (4, "b5")])
            };
            let weight = if is_nothing { json!(0) } else { weight(random) };
            json!({ "service": service, "weight": weight })
        })
        .collect();
    let mut spec = json!({ "service": written, "backends": backends });
    if random.percent(28) {
        let count = random.weighted(&[(5, "0"), (45, "1"), (50, "2")]).parse().unwrap();
        spec["matches"] = (0..count).map(|_| reference(random)).collect();
    }
    let mut split = object("split.smi-spec.io/v1alpha4", "TrafficSplit", SHOP, &name, &spec);
    let minute = random.below(3);
    split["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:0{minute}:00Z"));
    split
}

fn weight(random: &mut Random) -> Value {
    match random.below(40) {
        0..=4 | 13..=14 => json!(0),
        6 => json!(-5),
        7 if random.percent(30) => json!(1.5),
        7 => json!(random.pick(&["500m", "20", "half", "-1"])),
        8 => json!(20_000_000_000_u64),
        9 => json!(4_000_000_000_u64),
        10..=12 => json!(100),
        _ => json!(random.between(1, 60)),
    }
}

/// Generates a reference to a group of matches, sometimes an invalid one.
fn reference(random: &mut Random) -> Value {
    let kind = random.weighted(&[(95, "HTTPRouteGroup"), (3, "TCPRoute"), (2, "HTTPRoute")]);
    let mut reference = json!({ "kind": kind, "name": random.pick(&["g0", "g0", "g0", "g1", "g1", "g9"]) });
    if random.percent(20) {
        reference["apiGroup"] =
            json!(random.pick(&["specs.smi-spec.io", "specs.smi-spec.io/v1alpha4", "", "apps"]));
    }
    reference
}
