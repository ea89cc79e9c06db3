//! Answers of Prometheus in, traffic out: the edges of each kind, and answers that are wrong or far too large.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use smidge_traffic_metrics::{
    promql::{Query, queries},
    samples::{AnswerError, MAX_EDGES, Reading, error_of},
    traffic::{Direction, Edge, Figures, Kind, ObjectName, Peer, Question, Side, Traffic},
};

use super::directory::{ask, object, objects};

const WEB: [(&str, &str); 4] = [
    ("source_namespace", "shop"),
    ("source_kind", "Deployment"),
    ("source_workload", "front"),
    ("source_service_account", "web"),
];
const DB: [(&str, &str); 4] = [
    ("destination_namespace", "shop"),
    ("destination_kind", "StatefulSet"),
    ("destination_workload", "db"),
    ("destination_service_account", "data"),
];

fn sample(labels: &[&[(&str, &str)]], value: &str) -> Value {
    let labels: serde_json::Map<String, Value> = labels
        .iter()
        .flat_map(|it| it.iter())
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    json!({"metric": labels, "value": [1_781_234_567.1, value]})
}

fn answer(samples: &[Value]) -> String {
    json!({"status": "success", "data": {"resultType": "vector", "result": samples}}).to_string()
}

fn find(question: &Question, purpose: &str) -> Query {
    let queries = queries(question, &objects(), true).unwrap();
    queries.into_iter().find(|query| query.purpose == purpose).unwrap()
}

fn read(question: &Question, answers: &[(&str, &[Value])]) -> Result<Traffic, AnswerError> {
    let objects = objects();
    let mut reading = Reading::new(question.clone(), &objects, "local".to_owned());
    for (purpose, samples) in answers {
        reading.read(&find(question, purpose), answer(samples).as_bytes(), &objects)?;
    }
    Ok(reading.traffic())
}

fn peer(kind: &str, name: &str, service_account: &str) -> Peer {
    let service_account = service_account.to_owned();
    Peer { kind: kind.to_owned(), namespace: "shop".to_owned(), name: name.to_owned(), service_account }
}

fn of(traffic: &Traffic, name: &ObjectName) -> Vec<(Direction, Side, Peer, Option<String>, Figures)> {
    let row = |(edge, figures): (&Edge, &Figures)| {
        let backend = edge.backend.as_ref().map(|it| it.name.clone());
        (edge.direction, edge.side, edge.peer.clone(), backend, *figures)
    };
    traffic.get(name).into_iter().flatten().map(row).collect()
}

/// Labels of the StatefulSet `db` as a caller.
const FROM_DB: [(&str, &str); 2] = [("source_namespace", "shop"), ("source_workload", "db")];
const CACHE: [(&str, &str); 3] =
    [("service_namespace", "shop"), ("service", "cache"), ("backend", "cache-v2")];

#[test]
fn both_sides_of_a_workload_are_read() {
    let (succeeded, failed, refused) =
        (&[("outcome", "success")][..], &[("outcome", "failure")][..], &[("outcome", "refused")][..]);
    let own = &DB[..3];
    let requests_received = [
        sample(&[&WEB, own, succeeded], "7"),
        sample(&[&WEB, own, failed], "1.6"),
        sample(&[own, refused], "3"),
        sample(&[&WEB, succeeded], "9"),
    ];
    let latency = |le: &str, value| sample(&[&WEB, own, &[("le", le)]], value);
    let latency_received = [
        latency("+Inf", "9"),
        latency("5", "2"),
        latency("2.0", "2"),
        latency("25.0", "8"),
        latency("1", "0"),
    ];
    let requests_sent = [
        sample(&[&FROM_DB, &DB, succeeded], "4"),
        sample(&[&FROM_DB, &CACHE, failed], "5"),
        sample(&[&FROM_DB, refused], "6"),
    ];
    let traffic = read(
        &ask(Kind::StatefulSet, Some("shop"), None, 30),
        &[
            ("requests received", &requests_received),
            ("connections received", &[sample(&[&WEB, own, succeeded], "2")]),
            ("latency of requests received", &latency_received),
            ("requests sent", &requests_sent),
        ],
    )
    .unwrap();
    let mut front = Figures { success: 9, failure: 2, ..Figures::default() };
    (front.latency[1], front.latency[4], front.latency[13]) = (2, 6, 1);
    let figures = |success, failure, refused| Figures { success, failure, refused, ..Figures::default() };
    let expected = [
        (Direction::To, Side::Client, Peer::default(), None, figures(0, 0, 6)),
        (Direction::To, Side::Client, peer("Service", "cache-v2", ""), None, figures(0, 5, 0)),
        (Direction::To, Side::Client, peer("StatefulSet", "db", "data"), None, figures(4, 0, 0)),
        (Direction::From, Side::Server, Peer::default(), None, figures(0, 0, 3)),
        (Direction::From, Side::Server, peer("Deployment", "front", "web"), None, front),
    ];
    assert_eq!(of(&traffic, &object("shop", "db")), expected);
    assert_eq!(traffic.len(), 1, "a sample without the name of an object is no object's");
}

#[test]
fn pods_lead_to_nodes_and_replica_sets() {
    let counted =
        |pod| sample(&[&WEB[..1], &[("source_pod", pod), ("service", "x"), ("outcome", "success")]], "2");
    let samples = [counted("front-7d9-a"), counted("gone")];
    for (kind, name, expected) in [
        (Kind::Pod, None, vec![object("shop", "front-7d9-a"), object("shop", "gone")]),
        (Kind::Node, None, vec![object("", "n1")]),
        (Kind::Node, Some("n2"), vec![]),
        (Kind::ReplicaSet, None, vec![object("shop", "front-7d9")]),
        (Kind::ReplicaSet, Some("other"), vec![]),
    ] {
        let traffic = read(&ask(kind, None, name, 30), &[("requests sent by pod", &samples)]).unwrap();
        assert_eq!(traffic.keys().cloned().collect::<Vec<_>>(), expected, "{kind:?} {name:?}");
    }
    let namespace = ask(Kind::Namespace, Some("ignored"), Some("shop"), 30);
    let traffic = read(&namespace, &[("requests sent", &samples)]).unwrap();
    assert_eq!(traffic.keys().cloned().collect::<Vec<_>>(), [object("", "shop")]);
}

#[test]
fn services_and_splits_are_read_from_callers() {
    let called = |service, backend, value| {
        let names = [("service_namespace", "shop"), ("service", service), ("backend", backend)];
        sample(&[&WEB, &names, &[("outcome", "success")]], value)
    };
    let samples = [
        called("db", "db-v1", "5"),
        called("db", "db", "1"),
        called("db", "", "2"),
        called("x", "db-v2", "3"),
    ];
    let calls = |traffic: &Traffic| -> Vec<(String, Option<String>, u64)> {
        let edges = traffic.iter().flat_map(|(name, edges)| edges.iter().map(|it| (name.name.clone(), it)));
        edges
            .map(|(name, (edge, it))| (name, edge.backend.as_ref().map(|it| it.name.clone()), it.success))
            .collect()
    };
    let services = read(&ask(Kind::Service, None, None, 30), &[("requests sent", &samples)]).unwrap();
    let expected = [("db", 8), ("db-v1", 5), ("db-v2", 3), ("x", 3)];
    assert_eq!(calls(&services), expected.map(|(name, calls)| (name.to_owned(), None, calls)));
    let one = read(&ask(Kind::Service, Some("shop"), Some("db-v2"), 30), &[("requests sent", &samples)]);
    assert_eq!(calls(&one.unwrap()), [("db-v2".to_owned(), None, 3)]);
    let splits = read(&ask(Kind::TrafficSplit, None, None, 30), &[("requests sent", &samples)]).unwrap();
    assert_eq!(
        calls(&splits),
        [("canary".to_owned(), Some("db-v1".to_owned()), 5)],
        "backends of the split alone"
    );
    let edge = &of(&splits, &object("shop", "canary"))[0];
    assert_eq!(
        (edge.0, edge.1, edge.2.clone()),
        (Direction::From, Side::Client, peer("Deployment", "front", "web"))
    );
}

/// Returns the text of the error of an answer.
fn refused(purpose: &str, body: &str) -> String {
    let (question, objects) = (ask(Kind::Deployment, None, None, 30), objects());
    let mut reading = Reading::new(question.clone(), &objects, "local".to_owned());
    let error = reading.read(&find(&question, purpose), body.as_bytes(), &objects).unwrap_err();
    let text = error.to_string();
    assert!(text.len() < 1_000, "{} bytes", text.len());
    text
}

#[test]
fn values_that_are_no_counts_are_errors() {
    let of = |value: &str| {
        refused("requests received", &answer(&[sample(&[&WEB, &DB, &[("outcome", "success")]], value)]))
    };
    for value in ["NaN", "+Inf", "-Inf", "-1", "1e300", "4503599627370496", "", "seven", &"9".repeat(5_000)] {
        let text = of(value);
        let shown = value.get(..20).unwrap_or(value);
        assert!(
            text.contains(&format!("{shown:?}")[..shown.len()]) && text.contains("number of calls"),
            "{text}"
        );
    }
    let native = json!({"metric": {}, "histogram": [1.0, {"count": "1", "sum": "2", "buckets": []}]});
    assert!(refused("requests received", &answer(&[native])).contains("native histogram"));
}

#[test]
fn labels_that_our_metrics_do_not_have_are_errors() {
    let calls = |more: &[(&str, &str)]| answer(&[sample(&[&WEB, &DB, more], "1")]);
    let long = "x".repeat(254);
    for (purpose, more, expected) in [
        (
            "requests received",
            &[("outcome", "maybe")][..],
            "outcome has the value \"maybe\": expected success",
        ),
        ("requests received", &[], "outcome has the value \"\""),
        ("requests received", &[("outcome", &*"y".repeat(5_000))], "yyy...\""),
        ("latency of requests received", &[("le", "3")], "le has the value \"3\": expected a bound"),
        ("latency of requests received", &[("le", "NaN")], "le has the value"),
        ("latency of requests received", &[], "le has the value \"\""),
        (
            "requests received",
            &[("outcome", "success"), ("source_workload", &long)],
            "source_workload has 254 bytes",
        ),
        (
            "requests received",
            &[("outcome", "success"), ("destination_workload", &long)],
            "expected at most 253",
        ),
    ] {
        let text = refused(purpose, &calls(more));
        assert!(text.contains(expected), "{text}");
    }
    let hidden = [("outcome", "success"), ("source_workload", "a\u{202e}b\n")];
    let question = ask(Kind::StatefulSet, None, None, 30);
    let traffic = read(&question, &[("requests received", &[sample(&[&DB, &hidden], "1")])]).unwrap();
    assert_eq!(of(&traffic, &object("shop", "db"))[0].2.name, "a?b");
}

#[test]
fn answers_of_another_form_are_errors() {
    let ok = answer(&[]);
    for (body, expected) in [
        ("", "not an answer of the API"),
        ("<html>", "not an answer of the API"),
        (&ok[..ok.len() - 2], "not an answer of the API"),
        ("\u{0}\u{1}", "not an answer of the API"),
        ("{}", "status"),
        (r#"{"status": "success"}"#, "type \"none\""),
        (r#"{"status": "success", "data": {"resultType": "matrix", "result": []}}"#, "type \"matrix\""),
        (r#"{"status": "success", "data": {"resultType": "scalar", "result": [1, "2"]}}"#, "type \"scalar\""),
        (r#"{"status": "success", "data": {"resultType": "vector", "result": {}}}"#, "a list of samples"),
        (r#"{"status": "success", "data": {"resultType": "vector", "result": [7]}}"#, "not an answer"),
        (r#"{"status": "error", "errorType": "execution", "error": "too\nmany"}"#, "execution: too?many"),
    ] {
        let text = refused("requests received", body);
        assert!(text.contains(expected), "{body}: {text}");
    }
    let long = json!({"metric": {}, "value": ["v".repeat(10_000), "1"]});
    for body in
        [answer(&[long]), "[".repeat(100_000), json!({"status": [], "data": "d".repeat(9_000)}).to_string()]
    {
        assert!(refused("requests received", &body).contains("not an answer"));
    }
    let body = json!({"status": "error", "errorType": "bad_data", "error": "e".repeat(10_000)}).to_string();
    assert!(error_of(body.as_bytes()).unwrap().starts_with("bad_data: eee"));
    assert!(error_of(body.as_bytes()).unwrap().len() < 300);
    for none in [&b""[..], b"<html>", ok.as_bytes(), &[0xff, 0xfe]] {
        assert_eq!(error_of(none), None);
    }
}

#[test]
fn warnings_are_few_and_short() {
    let warnings = ["w".repeat(1_000), "b".to_owned(), "c".to_owned(), "d".to_owned()];
    let body = json!({
        "status": "success", "data": {"resultType": "vector", "result": []}, "warnings": warnings, "infos": ["x"],
    });
    let (question, objects) = (ask(Kind::Deployment, None, None, 30), objects());
    let mut reading = Reading::new(question.clone(), &objects, "local".to_owned());
    let read =
        reading.read(&find(&question, "requests sent"), body.to_string().as_bytes(), &objects).unwrap();
    assert_eq!((read.len(), read[0].len()), (3, 203));
}

#[test]
fn edges_are_bounded() {
    let sample = r#"{"metric":{"destination_namespace":"shop","destination_workload":"db","outcome":"success","source_workload":""#;
    let samples: Vec<String> =
        (0..=MAX_EDGES).map(|it| format!("{sample}{it}\"}},\"value\":[1,\"1\"]}}")).collect();
    let (question, objects) = (ask(Kind::StatefulSet, None, None, 30), objects());
    let read = |samples: &[String]| {
        let begin = r#"{"status":"success","data":{"resultType":"vector","result":["#;
        let body = format!("{begin}{}]}}}}", samples.join(","));
        let mut reading = Reading::new(question.clone(), &objects, "local".to_owned());
        reading
            .read(&find(&question, "requests received"), body.as_bytes(), &objects)
            .map(|_| reading.traffic())
    };
    assert_eq!(read(&samples[1..]).unwrap()[&object("shop", "db")].len(), MAX_EDGES);
    let error = read(&samples).unwrap_err();
    assert!(error.to_string().contains("more than 100000 edges; ask for one namespace"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// An answer with any part of it replaced is read or refused, in few words.
    #[test]
    fn any_answer_is_read_or_refused(
        from in 0_usize..400,
        len in 0_usize..40,
        by in prop::collection::vec(any::<u8>(), 0..20),
        purpose in prop::sample::select(vec!["requests received", "latency of requests received"]),
    ) {
        let samples = [
            sample(&[&WEB, &DB, &[("outcome", "success"), ("le", "5")]], "7"),
            sample(&[&DB, &[("outcome", "refused"), ("le", "+Inf")]], "1.5"),
        ];
        let mut body = answer(&samples).into_bytes();
        let from = from.min(body.len());
        let end = (from + len).min(body.len());
        body.splice(from..end, by);
        let (question, objects) = (ask(Kind::StatefulSet, None, None, 30), objects());
        let mut reading = Reading::new(question.clone(), &objects, "local".to_owned());
        match reading.read(&find(&question, purpose), &body, &objects) {
            Ok(warnings) => prop_assert!(warnings.is_empty()),
            Err(error) => prop_assert!(error.to_string().len() < 1_500, "{}", error),
        }
        for figures in reading.traffic().values().flat_map(BTreeMap::values) {
            prop_assert!(figures.success < 1 << 52 && figures.latency.iter().all(|count| *count < 1 << 52));
        }
    }
}
