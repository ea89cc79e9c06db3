//! Generated clusters for the proof of `explain`: the fixed pods, Services of every form over them, and the SMI objects of
//! the proofs of access and splits.

use serde_json::{Map, Value, json};

use crate::differential::{
    explained::pods::{
        CALLED, CALLED_ADDRESSES, CALLER, CALLER_ADDRESS, OUTSIDE, OUTSIDE_ADDRESS, OUTSIDE_SERVICE,
    },
    generated::{HTTP_PORTS, SHOP, TCP_PORTS, object, target},
    random::Random,
    routes::{group, ports},
};

/// Services with an address, by the value of the label `app` of their pods: of one pod, of both, of none, of a pod
/// outside the mesh, and of one inside and one outside. Of `closed`, no port leads to a pod.
const SERVICES: [(&str, &str); 7] = [
    ("api", "api"),
    ("store", "store"),
    ("both", "meshed"),
    ("none", "none"),
    ("outside", OUTSIDE),
    ("mixed", "mixed"),
    ("closed", "api"),
];
/// Services without.
const HEADLESS: [(&str, &str); 3] = [("peers", "meshed"), ("one", "api"), ("some", "mixed")];

/// Generates cluster number `index` of a seed.
pub fn scenario(seed: u64, index: u64) -> Vec<Value> {
    let mut random = Random::new(seed ^ 0x0e81_a1ed, index);
    let mut objects = pods(&mut random);
    for (number, (name, of)) in SERVICES.iter().enumerate() {
        if random.percent(85) {
            objects.push(service(&mut random, name, of, &address(number, name)));
        }
    }
    for (name, of) in HEADLESS {
        if random.percent(60) {
            objects.push(service(&mut random, name, of, "None"));
        }
    }
    objects.extend(settings(&mut random));
    for number in 0..2 {
        objects.push(group(&mut random, SHOP, &format!("g{number}")));
        objects.push(ports(&mut random, "TCPRoute", SHOP, &format!("t{number}")));
    }
    for number in 0..random.between(1, 4) {
        objects.push(target(&mut random, &format!("target{number}"), &CALLED));
    }
    objects.extend(wide(&mut random));
    for number in 0..random.between(0, 2) {
        objects.push(split(&mut random, number));
    }
    let suffix = if index.is_multiple_of(2) { "-a" } else { "-b" };
    for object in &mut objects {
        rename(object, suffix);
    }
    objects
}

/// Adds a suffix to the name of every Service: the next scenario has none of its clusters, so no connection that was
/// opened for another protocol.
fn rename(object: &mut Value, suffix: &str) {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let mut names: Vec<&mut Value> = Vec::new();
    match kind.as_str() {
        "Service" => names.push(&mut object["metadata"]["name"]),
        "TrafficSplit" => {
            let spec = object["spec"].as_object_mut().unwrap();
            for (field, value) in spec {
                match field.as_str() {
                    "service" => names.push(value),
                    "backends" => {
                        names.extend(value.as_array_mut().unwrap().iter_mut().map(|it| &mut it["service"]));
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
    for name in names {
        *name = json!(format!("{}{suffix}", name.as_str().unwrap()));
    }
}

/// Address of a Service.
fn address(number: usize, name: &str) -> String {
    if name == "outside" { OUTSIDE_SERVICE.to_owned() } else { format!("198.18.1.{}", number + 1) }
}

fn pods(random: &mut Random) -> Vec<Value> {
    let called = CALLED.into_iter().zip(CALLED_ADDRESSES);
    let mut all: Vec<Value> = called
        .map(|(name, address)| {
            let mut ports = Vec::new();
            for (prefix, numbers) in [("http", HTTP_PORTS), ("tcp", TCP_PORTS)] {
                for number in numbers {
                    let name = format!("{prefix}-{number}");
                    ports.push(json!({ "name": name, "containerPort": number }));
                }
            }
            if random.percent(70) {
                ports.push(json!({ "containerPort": 7000 }));
            }
            let labels = json!({ "app": name, "meshed": "yes", "mixed": "yes" });
            pod(name, address, &labels, &json!(ports))
        })
        .collect();
    all.push(pod(CALLER, CALLER_ADDRESS, &json!({}), &json!([])));
    let labels = json!({ "app": OUTSIDE, "mixed": "yes", "smidge.mesh/inject": "disabled" });
    all.push(pod(OUTSIDE, OUTSIDE_ADDRESS, &labels, &json!([])));
    all
}

fn pod(name: &str, address: &str, labels: &Value, ports: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": SHOP, "labels": labels },
        "spec": {
            "serviceAccountName": name,
            "containers": [{ "name": "app", "image": "app", "ports": ports }],
        },
        "status": { "podIP": address, "podIPs": [{ "ip": address }] },
    })
}

fn service(random: &mut Random, name: &str, of: &str, address: &str) -> Value {
    let selector = match of {
        "meshed" | "mixed" => json!({ of: "yes" }),
        of => json!({ "app": of }),
    };
    let mut written = vec![(80, random.pick(&["http", "http-web", "web"]), http_target(random))];
    if random.percent(80) {
        written.push((90, random.pick(&["tcp", "redis", "raw"]), tcp_target(random)));
    }
    if random.percent(50) {
        written.push((70, random.pick(&["some", "any", "http-odd", "tcp-odd"]), json!(7000)));
    }
    if random.percent(40) {
        // A port whose number is the pods'.
        let number = random.weighted(&[(30, "8080"), (20, "8081"), (20, "9000"), (15, "7000"), (15, "7001")]);
        let number: u16 = number.parse().unwrap();
        written.push((number, random.pick(&["same", "http-same", "tcp-same"]), json!(number)));
    }
    if address == OUTSIDE_SERVICE {
        // The ports that are translated.
        written = vec![(80, "http", json!(8080)), (90, "tcp", json!(9000))];
    }
    let written: Vec<Value> = written
        .into_iter()
        .map(|(number, name, target)| {
            let target = if of == "api" && random.percent(3) { json!("lost") } else { target };
            json!({ "name": name, "port": number, "targetPort": target })
        })
        .collect();
    let mut spec = json!({ "clusterIP": address, "clusterIPs": [address], "selector": selector });
    spec["ports"] = json!(written);
    if name == "closed" {
        spec["ports"] = json!([{ "name": "http", "port": 80, "targetPort": "lost" }]);
    }
    let mut service = object("v1", "Service", SHOP, name, &spec);
    let minute = random.below(3);
    service["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:0{minute}:00Z"));
    service
}

fn http_target(random: &mut Random) -> Value {
    match random.below(8) {
        0 => json!(8081),
        1 => json!("http-8080"),
        2 => json!(80),
        3 => json!(9000),
        _ => json!(8080),
    }
}

fn tcp_target(random: &mut Random) -> Value {
    match random.below(8) {
        0 => json!(9001),
        1 => json!("tcp-9000"),
        2 => json!(8080),
        3 => json!(7000),
        _ => json!(9000),
    }
}

/// Generates the settings; each mode is frequent.
fn settings(random: &mut Random) -> Vec<Value> {
    let mut spec = json!({ "pathRegexEnd": random.pick(&["open", "closed"]) });
    if random.percent(60) {
        spec["undeclaredPorts"] = json!(random.pick(&["detect", "http", "tcp"]));
    }
    let mut labels = Map::new();
    let access = random.weighted(&[(70, "enforce"), (12, "permissive"), (15, "audit"), (3, "none")]);
    labels.insert("smidge.mesh/access".to_owned(), json!(access));
    let mtls = random.weighted(&[(60, "strict"), (37, "permissive"), (3, "maybe")]);
    labels.insert("smidge.mesh/mtls".to_owned(), json!(mtls));
    let metadata = json!({ "name": SHOP, "labels": labels });
    vec![
        object("smidge.mesh/v1alpha1", "MeshConfig", "", "default", &spec),
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }),
    ]
}

/// Generates targets that allow the caller everything at a workload, over HTTP, over TCP or both.
fn wide(random: &mut Random) -> Vec<Value> {
    let (access, specs) = ("access.smi-spec.io/v1alpha4", "specs.smi-spec.io/v1alpha4");
    let every = json!({ "matches": { "ports": [] } });
    let any = json!({ "matches": [{ "name": "any", "pathRegex": "/.*" }] });
    let mut all = vec![
        object(specs, "TCPRoute", SHOP, "every", &every),
        object(specs, "HTTPRouteGroup", SHOP, "every", &any),
    ];
    for called in CALLED {
        for (kind, percent) in [("TCPRoute", 35), ("HTTPRouteGroup", 35)] {
            if random.percent(percent) {
                let account =
                    |name: &str| json!({ "kind": "ServiceAccount", "name": name, "namespace": SHOP });
                let spec = json!({
                    "destination": account(called), "sources": [account(CALLER)],
                    "rules": [{ "kind": kind, "name": "every" }],
                });
                let name = format!("{}-{called}", kind.to_lowercase());
                all.push(object(access, "TrafficTarget", SHOP, &name, &spec));
            }
        }
    }
    all
}

fn split(random: &mut Random, number: usize) -> Value {
    let root = random.weighted(&[
        (40, "api"),
        (25, "both"),
        (10, "mixed"),
        (10, "peers"),
        (10, "none"),
        (5, "outside"),
    ]);
    let backends: Vec<Value> = (0..random.between(1, 3))
        .map(|_| {
            let service = random.weighted(&[
                (25, "api"), (25, "store"), (15, "both"), (8, "none"), (8, "peers"), (6, "outside"), (6, "mixed"), (4, "closed"),
                (3, "lost"),
            ]);
            json!({ "service": service, "weight": random.pick(&[0, 1, 1, 2].map(|it| ["0", "1", "2"][it])).parse::<u8>().unwrap() })
        })
        .collect();
    let mut spec = json!({ "service": root, "backends": backends });
    if random.percent(40) {
        spec["matches"] = json!([{ "kind": "HTTPRouteGroup", "name": random.pick(&["g0", "g1", "g9"]) }]);
    }
    object("split.smi-spec.io/v1alpha4", "TrafficSplit", SHOP, &format!("split{number}"), &spec)
}
