//! Golden answers of the API: each request of the list, with the same objects and traffic, yields the text of a file.
//!
//! `UPDATE_EXPECT=1 cargo test -p smidge-traffic-metrics --test api` rewrites the files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where it goes wrong"
)]

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};
use smidge_traffic_metrics::{
    api::{
        accept,
        answer::{self, Part},
        assemble::{self, Split, Subject},
        changes::{self, Sent},
        discovery, openapi,
        request::{self, Request},
        status::Status,
        stored::{self, policy::Shown},
        timestamp::Timestamp,
    },
    traffic::{Direction, Edge, Figures, Kind, ObjectName, Peer, Side, Traffic},
};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const AT: Timestamp = Timestamp(1_794_000_000);

fn name(namespace: &str, name: &str) -> ObjectName {
    ObjectName { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn edge(direction: Direction, side: Side, peer: (&str, &str, &str, &str), backend: Option<&str>) -> Edge {
    let [kind, namespace, own, service_account] = [peer.0, peer.1, peer.2, peer.3].map(str::to_owned);
    let peer = Peer { kind, namespace, name: own, service_account };
    Edge { direction, side, peer, backend: backend.map(|backend| name("shop", backend)), route: None }
}

fn figures(success: u64, failure: u64, refused: u64, latency: &[(usize, u64)]) -> Figures {
    let mut figures = Figures { success, failure, refused, ..Figures::default() };
    for (bucket, count) in latency {
        figures.latency[*bucket] = *count;
    }
    figures
}

/// The objects of a kind.
fn subjects(kind: Kind) -> Vec<Subject> {
    let subject = |own: ObjectName| Subject {
        labels: BTreeMap::from([("app".to_owned(), own.name.clone())]),
        created: Some("2026-11-01T08:00:00Z".to_owned()),
        name: own,
        split: None,
    };
    match kind {
        Kind::Namespace => vec![subject(name("", "idle")), subject(name("", "shop"))],
        Kind::Node => vec![subject(name("", "one"))],
        Kind::TrafficSplit => {
            let backends = vec![("web-v1".to_owned(), 90), ("web-v2".to_owned(), 10)];
            let split = Some(Split { apex: "web".to_owned(), backends });
            vec![Subject { split, ..subject(name("shop", "canary")) }]
        }
        _ => vec![subject(name("shop", "idle")), subject(name("shop", "web"))],
    }
}

/// The traffic of the objects of a kind.
fn traffic(kind: Kind) -> Traffic {
    let caller = ("Deployment", "front", "gateway", "gateway");
    let edges = match kind {
        Kind::TrafficSplit => {
            let to = |backend| edge(Direction::From, Side::Client, caller, Some(backend));
            return Traffic::from([(
                name("shop", "canary"),
                BTreeMap::from([
                    (to("web-v1"), figures(900, 9, 0, &[(3, 909)])),
                    (to("web-v0"), figures(1, 0, 0, &[(0, 1)])),
                ]),
            )]);
        }
        Kind::Service => BTreeMap::from([(
            edge(Direction::From, Side::Client, caller, None),
            figures(10, 0, 0, &[(2, 10)]),
        )]),
        _ => BTreeMap::from([
            (edge(Direction::From, Side::Server, caller, None), figures(1000, 20, 3, &[(6, 500), (7, 520)])),
            (edge(Direction::From, Side::Client, caller, None), figures(1000, 21, 3, &[(6, 500), (7, 521)])),
            (
                edge(Direction::From, Side::Server, ("", "shop", "", "batch"), None),
                figures(1, 0, 0, &[(0, 1)]),
            ),
            (edge(Direction::From, Side::Server, ("", "", "", ""), None), figures(0, 0, 5, &[])),
            (
                edge(Direction::To, Side::Client, ("Service", "data", "db", ""), None),
                figures(30, 0, 0, &[(13, 30)]),
            ),
        ]),
    };
    let own = if matches!(kind, Kind::Namespace) { name("", "shop") } else { name("shop", "web") };
    Traffic::from([(own, edges)])
}

/// MetricsPolicies as the API server has them: one of a Deployment, one of the namespace, one of a kind without figures.
fn policies() -> [Value; 3] {
    [("web", "Deployment", "web"), ("all", "Namespace", "shop"), ("nightly", "CronJob", "nightly")].map(
        |(name, kind, target)| {
            json!({
                "apiVersion": "smidge.mesh/v1alpha1", "kind": "MetricsPolicy",
                "metadata": {
                    "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "76",
                    "labels": {"team": "shop"}, "finalizers": ["example.org/f"], "managedFields": [{"manager": "kubectl"}],
                },
                "spec": {"target": {"kind": kind, "name": target}, "rules": [{"kind": "HTTPRouteGroup", "name": "books"}]},
            })
        },
    )
}

/// Answers a request as the server does, with the objects of this file.
fn answer(path: &str, accept: &str) -> Result<Vec<u8>, Status> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let document = match request::parse("GET", path, query)? {
        Request::Figures(request) => {
            let form = accept::choose(accept, answer::is_list(&request))?;
            let mut all = subjects(request.resource.kind);
            all.retain(|subject| request.object_name().is_none_or(|name| subject.name.name == name));
            let part = Part { subjects: all, ..Part::default() };
            return answer::write(&request, form, (&part, &traffic(request.resource.kind)), AT);
        }
        Request::Stored(request) => {
            let form = accept::choose(accept, request.name.is_none())?;
            let policies: Vec<Shown> = policies().iter().map(Shown::of).collect();
            let mut part = stored::answer::Part {
                policies,
                resource_version: "77".to_owned(),
                ..stored::answer::Part::default()
            };
            part.policies.retain(|it| request.name.as_ref().is_none_or(|name| it.text("name") == name));
            let questions = stored::answer::questions(&request, &part.policies);
            let traffic = questions.iter().map(|question| (question.kind, traffic(question.kind))).collect();
            return stored::answer::write(&request, form, (&part, &traffic), AT);
        }
        Request::Group => discovery::group(),
        Request::Resources(version) => discovery::resources(version),
        Request::OpenApi2 => openapi::v2(),
        Request::OpenApi3 => openapi::v3_index(),
        Request::OpenApi3Of(version) => openapi::v3(version),
    };
    Ok(serde_json::to_vec(&document).unwrap())
}

/// Compares an answer with its file, of which it returns the difference.
fn compare(file: &str, text: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, text).unwrap();
        return None;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    (expected != text).then(|| format!("{file}: expected\n{expected}\nbut was\n{text}"))
}

/// Indents JSON without changing the order of its keys.
fn indented(text: &[u8]) -> String {
    let raw: Box<serde_json::value::RawValue> = serde_json::from_slice(text).unwrap();
    let (mut out, mut depth, mut is_text, mut is_escaped) = (String::new(), 0_usize, false, false);
    for letter in raw.get().chars() {
        if is_text {
            out.push(letter);
            is_text = letter != '"' || is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            continue;
        }
        match letter {
            '{' | '[' => {
                depth += 1;
                out.push(letter);
                write!(out, "\n{}", "  ".repeat(depth)).unwrap();
            }
            '}' | ']' => {
                depth -= 1;
                write!(out, "\n{}{letter}", "  ".repeat(depth)).unwrap();
            }
            ',' => write!(out, ",\n{}", "  ".repeat(depth)).unwrap(),
            ':' => out.push_str(": "),
            letter => {
                is_text = letter == '"';
                out.push(letter);
            }
        }
    }
    out + "\n"
}

#[test]
fn every_answer_is_its_file() {
    let base = "/apis/metrics.smi-spec.io/v1alpha2";
    let old = "/apis/metrics.smi-spec.io/v1alpha1";
    let cases = [
        ("group", "/apis/metrics.smi-spec.io".to_owned(), ""),
        ("resources-v1alpha1", old.to_owned(), ""),
        ("resources-v1alpha2", base.to_owned(), ""),
        ("openapi-v2", "/openapi/v2".to_owned(), ""),
        ("openapi-v3", "/openapi/v3".to_owned(), ""),
        ("openapi-v3-v1alpha2", "/openapi/v3/apis/metrics.smi-spec.io/v1alpha2".to_owned(), ""),
        ("list", format!("{base}/namespaces/shop/deployments"), ""),
        ("list-v1alpha1", format!("{old}/namespaces/shop/deployments?t=5m30s"), ""),
        ("list-everywhere-table", format!("{base}/deployments"), TABLE),
        ("list-metadata", format!("{base}/deployments"), METADATA),
        ("list-named", format!("{base}/namespaces/shop/pods?fieldSelector=metadata.name=web"), TABLE),
        ("get", format!("{base}/namespaces/shop/deployments/web"), "application/json"),
        ("get-table", format!("{base}/namespaces/shop/deployments/web"), TABLE),
        ("get-missing", format!("{base}/namespaces/shop/deployments/none"), ""),
        ("edges", format!("{base}/namespaces/shop/deployments/web/edges"), ""),
        ("edges-table", format!("{base}/namespaces/shop/deployments/web/edges"), TABLE),
        ("edges-missing", format!("{base}/namespaces/shop/deployments/none/edges"), ""),
        ("namespace", format!("{base}/namespaces/shop"), ""),
        ("namespace-edges", format!("{base}/namespaces/shop/edges"), TABLE),
        ("namespaces", format!("{base}/namespaces?includeObject=None"), TABLE),
        ("node", format!("{base}/nodes/one"), ""),
        ("service", format!("{base}/namespaces/shop/services/web?includeObject=Object"), TABLE),
        ("split", format!("{base}/namespaces/shop/trafficsplits/canary"), ""),
        ("split-table", format!("{base}/namespaces/shop/trafficsplits"), TABLE),
        ("split-edges", format!("{base}/namespaces/shop/trafficsplits/canary/edges"), TABLE),
        ("stored", format!("{base}/namespaces/shop/trafficmetrics/web"), ""),
        ("stored-list-table", format!("{base}/trafficmetrics"), TABLE),
        ("stored-list", format!("{old}/namespaces/shop/trafficmetrics"), ""),
        ("error-path", format!("{base}/configmaps"), ""),
        ("error-window", format!("{base}/pods?window=2h"), ""),
        ("error-accept", format!("{base}/pods"), "application/yaml"),
    ];
    let mut broken = Vec::new();
    for (file, path, accept) in cases {
        let (code, text) = match answer(&path, accept) {
            Ok(text) => (200, text),
            Err(status) => (status.code, status.json()),
        };
        let text = format!("GET {path}\nAccept: {accept}\n{code}\n{}", indented(&text));
        broken.extend(compare(&format!("{file}.txt"), &text));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_watch_sends_what_differs() {
    let path = "/apis/metrics.smi-spec.io/v1alpha2/namespaces/shop/deployments";
    let Ok(Request::Figures(request)) = request::parse("GET", path, "watch=true") else { panic!("not read") };
    for (file, accept) in [("watch", ""), ("watch-table", TABLE)] {
        let form = accept::choose(accept, false).unwrap();
        let mut sent = Sent::default();
        let mut text = String::new();
        let mut step = |title: &str, subjects: &[Subject], traffic: &Traffic, at| {
            let items = assemble::wholes(&request, subjects, traffic, at);
            let lines = sent.next(&request, form, items).unwrap();
            write!(text, "# {title}\n{}", String::from_utf8(lines).unwrap()).unwrap();
        };
        let all = subjects(Kind::Deployment);
        let mut traffic = traffic(Kind::Deployment);
        step("first", &all, &traffic, AT);
        step("the same", &all, &traffic, Timestamp(AT.0 + 10));
        traffic.values_mut().flat_map(BTreeMap::values_mut).for_each(|figures| figures.success += 1);
        step("one has more calls", &all, &traffic, Timestamp(AT.0 + 20));
        step("one is gone", &all[1..], &traffic, Timestamp(AT.0 + 30));
        text += &String::from_utf8(changes::bookmark(&request, true, AT)).unwrap();
        text += &String::from_utf8(changes::bookmark(&request, false, AT)).unwrap();
        text += &String::from_utf8(changes::error(&Status::unavailable("no figures"))).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let event: Value = serde_json::from_str(line).unwrap();
            assert!(event["type"].is_string() && event["object"]["kind"].is_string(), "{line}");
        }
        assert_eq!(compare(&format!("{file}.txt"), &text), None);
    }
}

#[test]
fn of_very_many_edges_those_with_most_calls_are_kept() {
    let path = "/apis/metrics.smi-spec.io/v1alpha2/namespaces/shop/deployments/web/edges";
    let Ok(Request::Figures(request)) = request::parse("GET", path, "") else { panic!("not read") };
    let edges = (0..assemble::MAX_EDGES as u64 + 5).map(|number| {
        let peer = format!("peer-{number:05}");
        (edge(Direction::From, Side::Server, ("Pod", "shop", &peer, ""), None), figures(number, 0, 0, &[]))
    });
    let traffic = Traffic::from([(name("shop", "web"), edges.collect())]);
    let subjects = subjects(Kind::Deployment);
    let (items, left_out) = assemble::edges(&request, &subjects[1], &traffic, AT);
    assert_eq!((items.len(), left_out), (assemble::MAX_EDGES, 5));
    assert_eq!(items[0].edge.resource.as_ref().unwrap().name, "peer-00005");
    let part = Part { subjects: subjects[1..].to_vec(), ..Part::default() };
    let text = answer::write(&request, accept::Form::Object, (&part, &traffic), AT).unwrap();
    let list: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(list["metadata"]["remainingItemCount"], 5);
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(method in "[A-Z]{0,6}", path in "(/(apis|openapi|v3|metrics.smi-spec.io|v1alpha[0-3]|namespaces|pods|edges|.{0,5})){0,8}", query in ".{0,80}", accept in ".{0,80}") {
        let _ = request::parse(&method, &path, &query);
        let _ = request::parse("GET", "/apis/metrics.smi-spec.io/v1alpha1/pods", &query);
        let _ = accept::choose(&accept, true);
    }

    #[test]
    fn a_window_that_is_accepted_is_within_its_bounds(window in "[0-9]{0,5}[.]?[0-9]{0,3}(ns|us|ms|s|m|h)") {
        let parsed = request::parse("GET", "/apis/metrics.smi-spec.io/v1alpha1/pods", &format!("window={window}"));
        if let Ok(Request::Figures(figures)) = parsed {
            let seconds = figures.parameters.window.as_secs_f64();
            prop_assert!((10.0..=3600.0).contains(&seconds), "{window}");
        }
    }
}
