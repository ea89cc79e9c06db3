//! `operator::webhook::injection`: the patch for a pod of a usual size, from the body of the review to the answer's.

use std::hint::black_box;

use criterion::Criterion;
use rcgen::KeyPair;
use serde_json::{Value, json};
use smidge::{
    ca::issue::{self, Serial, Subject},
    injector::Settings,
    webhook::injection,
};
use time::OffsetDateTime;

pub fn bench(criterion: &mut Criterion) {
    let subject = Subject { name: "root", domain: None };
    let (key, serial) = (KeyPair::generate().unwrap(), Serial::new([1; 16]));
    let root = issue::root(key, subject, OffsetDateTime::now_utc(), serial).unwrap();
    let settings = Settings { control_plane_roots: vec![root.pem().to_owned()], ..Settings::default() };
    let body = review().to_string();
    let injected = injection::answer(body.as_bytes(), &settings).unwrap();
    assert!(injected.pointer("/response/patch").is_some(), "{injected}");
    criterion.benchmark_group("injection").bench_function("patch", |bencher| {
        bencher.iter(|| injection::answer(black_box(body.as_bytes()), &settings).unwrap().to_string());
    });
}

/// Two containers with probes, ports and volumes.
fn review() -> Value {
    let container = |name: &str, port: u16| {
        json!({
            "name": name, "image": format!("registry.example/{name}:1.2.3"),
            "ports": [{"name": "http", "containerPort": port}],
            "env": (0..20).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "value"})).collect::<Vec<_>>(),
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
            "livenessProbe": {"tcpSocket": {"port": port}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        })
    };
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": "bench-0",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"generateName": "shop-7d9c-", "namespace": "bench-0", "labels": {"app": "shop"}},
                "spec": {
                    "serviceAccountName": "shop",
                    "containers": [container("app", 8080), container("log", 9000)],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                },
            },
        },
    })
}
