//! Puts a split of the corpus into a cluster where its Services exist, and compares the shares that it sends with its
//! weights.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use smidge::{
    cli::explain,
    documents::{self, Document, Source},
    explain::Question,
};

/// A weight as SMI's documents define it: a number, or a quantity in thousandths.
fn weight(written: &Value) -> f64 {
    match written {
        Value::Number(number) => number.as_f64().unwrap(),
        Value::String(text) => match text.strip_suffix('m') {
            Some(thousandths) => thousandths.parse::<f64>().unwrap() / 1000.0,
            None => text.parse().unwrap(),
        },
        other => panic!("{other} is no weight"),
    }
}

/// A Service with a pod behind it, in a namespace.
fn served(namespace: &str, name: &str) -> [Value; 2] {
    let labels = json!({"of": name});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
    let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "app", "ports": [{"containerPort": 8080}]}]}}}});
    [service, workload]
}

/// Panics if the split sends other shares than its weights define.
pub fn hold(file: &str, document: &Document) {
    let field = |pointer: &str| document.value.pointer(pointer).cloned().unwrap_or_default();
    let namespace = field("/metadata/namespace").as_str().unwrap_or("default").to_owned();
    let root = field("/spec/service").as_str().unwrap().to_owned();
    let backends = field("/spec/backends");
    let backends = backends.as_array().unwrap();
    let name = |backend: &Value| backend["service"].as_str().unwrap().to_owned();
    let services: BTreeSet<String> = backends.iter().map(name).chain([root.clone()]).collect();
    let mut harness: Vec<Value> = services.iter().flat_map(|service| served(&namespace, service)).collect();
    let mut split = document.value.clone();
    // Matches are not tested here.
    split["spec"].as_object_mut().unwrap().remove("matches");
    harness.push(split);
    let text = harness.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n");
    let offline = documents::assemble(&[Source { name: "harness.yaml".to_owned(), text }]);
    let to = format!("service:{namespace}/{root}");
    let question = Question { from: "sa:any/body".to_owned(), to, ..Question::default() };
    let answer = explain::answer(offline, &question).unwrap();
    let sum: f64 = backends.iter().map(|backend| weight(&backend["weight"])).sum();
    let said: BTreeMap<String, f64> = backends
        .iter()
        .map(|it| (format!("{namespace}/{}", name(it)), 100.0 * weight(&it["weight"]) / sum))
        .collect();
    let sent: BTreeMap<String, f64> = answer
        .shares
        .iter()
        .map(|share| (share.service.clone().unwrap_or_default(), share.percent))
        .collect();
    assert!(answer.shares.iter().all(|share| share.origin.is_some()), "{file}: {answer:#?}");
    assert_eq!(said.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>(), "{file}");
    for (service, percent) in &said {
        assert!(
            (percent - sent[service]).abs() < 0.006,
            "{file}: {service} gets {}, not {percent}",
            sent[service]
        );
    }
}
