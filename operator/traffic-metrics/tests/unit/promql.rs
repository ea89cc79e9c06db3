//! Questions in, queries of Prometheus out: a file for each question in `tests/promql`.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

use smidge_traffic_metrics::{
    directory::Split,
    families::FAMILIES,
    promql::{Query, queries},
    traffic::{Kind, Question, SourceError},
};

use super::directory::{Objects, ask, object, objects};

/// Names of the files with the questions.
fn cases() -> Vec<(&'static str, Question)> {
    let (shop, db) = (Some("shop"), Some("db"));
    let hostile = r#"a"}) or vector(1) # \"#;
    vec![
        ("daemonset", ask(Kind::DaemonSet, shop, Some("agent"), 30)),
        ("deployment", ask(Kind::Deployment, shop, Some("front"), 30)),
        ("deployments", ask(Kind::Deployment, shop, None, 300)),
        ("deployments-everywhere", ask(Kind::Deployment, None, None, 30)),
        ("hostile-names", ask(Kind::StatefulSet, Some("a\\\nb"), Some(hostile), 30)),
        ("job", ask(Kind::Job, shop, Some("import"), 30)),
        ("namespace", ask(Kind::Namespace, None, shop, 30)),
        ("namespaces", ask(Kind::Namespace, None, None, 30)),
        ("node", ask(Kind::Node, None, Some("n1"), 30)),
        ("pod", ask(Kind::Pod, shop, Some("db-0"), 30)),
        ("replicaset", ask(Kind::ReplicaSet, shop, Some("front-7d9"), 30)),
        ("replicationcontroller", ask(Kind::ReplicationController, shop, Some("old"), 30)),
        ("service", ask(Kind::Service, shop, db, 30)),
        ("services", ask(Kind::Service, shop, None, 30)),
        ("services-everywhere", ask(Kind::Service, None, None, 30)),
        ("split", ask(Kind::TrafficSplit, shop, Some("canary"), 30)),
        ("split-missing", ask(Kind::TrafficSplit, shop, Some("gone"), 30)),
        ("splits-everywhere", ask(Kind::TrafficSplit, None, None, 30)),
        ("statefulset", ask(Kind::StatefulSet, shop, db, 30)),
        ("window-too-long", ask(Kind::Namespace, None, shop, 100_000)),
        ("window-too-short", ask(Kind::Namespace, None, shop, 0)),
    ]
}

/// Two more TrafficSplits, one in another namespace.
fn directory() -> Objects {
    let mut objects = objects();
    let split = |namespace: &str, name: &str, root: &str| Split {
        name: object(namespace, name),
        root: object(namespace, root),
        backends: vec![object(namespace, "v1")],
    };
    objects.splits.extend([split("shop", "second", "cache"), split("other", "third", "db")]);
    objects
}

fn of(question: &Question) -> Vec<Query> {
    queries(question, &directory(), true).unwrap()
}

/// Returns a query with a letter for each selector, which occur nine times each, and what the letters stand for.
fn folded(query: &str) -> String {
    let (mut text, mut names) = (query.to_owned(), String::new());
    for letter in ["A", "B", "C"] {
        let Some((_, rest)) = text.split_once("smidge_") else { break };
        let (selector, _) = rest.split_once(" or last_over_time(").unwrap();
        let selector = format!("smidge_{selector}");
        text = text.replace(&selector, letter);
        writeln!(names, "{letter} = {selector}").unwrap();
    }
    format!("{names}{text}")
}

#[test]
fn each_question_has_its_queries() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/promql");
    let mut files = BTreeSet::new();
    for (name, question) in cases() {
        let queries = of(&question);
        let lines = queries.iter().map(|query| format!("# {}\n{}\n", query.purpose, folded(&query.text)));
        let (text, file) = (lines.collect::<String>(), folder.join(format!("{name}.promql")));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&file).unwrap_or_default(), "UPDATE_EXPECT=1 rewrites {file:?}");
        files.insert(file);
    }
    let found = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(found.collect::<BTreeSet<_>>(), files, "each file is of a question");
}

/// Every label between braces or behind `by` is one of the metric's own; whatever names have, they stay within quotes.
#[test]
fn queries_have_the_labels_of_their_metrics() {
    for query in cases().iter().flat_map(|(_, question)| of(question)) {
        let (mut rest, mut bare) = (query.text.as_str(), String::new());
        while let Some((before, after)) = rest.split_once('"') {
            bare.push_str(before);
            bare.push('_');
            let mut is_escaped = false;
            let end = after.find(|letter| {
                let ends = letter == '"' && !is_escaped;
                is_escaped = letter == '\\' && !is_escaped;
                ends
            });
            rest = &after[end.expect("a literal ends") + 1..];
        }
        bare.push_str(rest);
        let family = FAMILIES.iter().find(|it| bare.contains(&format!("({}{{", it.full_name())));
        let family = family.unwrap_or_else(|| panic!("{bare}"));
        let labels: BTreeSet<&str> = family.label_names().chain(["le"]).collect();
        let selectors = bare.split('{').skip(1).map(|it| it.split_once('}').unwrap().0);
        let by = bare.strip_prefix("sum by (").and_then(|it| it.split_once(')')).unwrap().0;
        let matched = selectors.flat_map(|it| it.split(',')).map(|it| it.split(['=', '!']).next().unwrap());
        for label in matched.chain(by.split(',')) {
            assert!(labels.contains(label), "{label} in {bare}");
        }
        let names = bare.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        for word in names.filter(|word| word.starts_with("smidge")) {
            assert_eq!(word, family.full_name());
        }
        assert!(!bare.contains("vector(1)"), "{bare}");
    }
}

#[test]
fn kinds_by_pod_need_the_metrics_of_pods() {
    for kind in [Kind::Pod, Kind::Node, Kind::ReplicaSet] {
        let error = queries(&ask(kind, None, None, 30), &directory(), false).unwrap_err();
        let SourceError::Unsupported(text) = &error else { panic!("{error}") };
        assert!(
            text.contains("trafficMetrics.prometheus.pods") && text.contains(&format!("{kind:?}")),
            "{text}"
        );
    }
    for kind in [Kind::Namespace, Kind::Deployment, Kind::Job, Kind::Service, Kind::TrafficSplit] {
        assert!(queries(&ask(kind, None, None, 30), &directory(), false).is_ok(), "{kind:?}");
    }
}
