//! The alerts of the chart (`files/alerts.yaml`), by a real promtool and by the metrics of a real operator: the rules are
//! valid, each fires when it should and only then, what they read exists, and each has a runbook.
//!
//! `operator/tests/alerts` has the series and what fires. promtool is `$PROMTOOL`, else that of the cluster's tool cache;
//! without one, the tests that need it print so and pass, but with `CI=true` they fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use prometheus_client::{encoding::text::encode, registry::Registry};
use regex::Regex;
use serde_json::Value;
use smidge::{
    clock::Clock,
    lease::{self, Leader},
    peers::fetch,
    runtime::watches,
    source::kubernetes::Metrics as Watches,
    webhook::{self, injection},
};
use smidge_testing::control_plane::{Start, own_address, put, until};
use smidge_xds::mesh::id::ClusterId;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// Labels of a target, which a scrape adds, and that of the buckets of histograms.
pub(super) const OF_TARGETS: [&str; 6] = ["cluster", "job", "namespace", "instance", "pod", "le"];

/// Metrics of others, with the labels that Kubernetes 1.34 and Prometheus declare for them.
const OF_OTHERS: [(&str, &[&str]); 4] = [
    ("up", &[]),
    ("aggregator_unavailable_apiservice", &["name"]),
    ("apiserver_admission_webhook_fail_open_count", &["name", "type"]),
    (
        "apiserver_admission_webhook_rejection_count",
        &["name", "type", "operation", "error_type", "rejection_code"],
    ),
];

/// Words of PromQL in the rules that no parenthesis follows.
const WORDS: [&str; 4] = ["and", "or", "unless", "offset"];

/// Objects with an error, as findings exist only while there are some.
const CONFLICT: &str = "\
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: empty, namespace: shop}
spec: {destination: {kind: Nothing, name: store, namespace: shop}, rules: [], sources: []}
---
apiVersion: smidge.mesh/v1alpha1
kind: ExternalWorkload
metadata: {name: store, namespace: shop}
spec: {serviceAccount: store, addresses: [10.9.0.1]}
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn rules_file() -> PathBuf {
    root().join("charts/smidge/files/alerts.yaml")
}

fn rules() -> Vec<Value> {
    let file = read(&rules_file());
    list(&file["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect()
}

/// Returns the files of the tests of alerts, in order.
fn tests() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

pub(super) fn promtool() -> Option<Command> {
    let set = std::env::var_os("PROMTOOL").map(PathBuf::from);
    let cached = || {
        Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/smidge/bin/prometheus-debian/promtool"))
    };
    let found = set.or_else(cached).filter(|program| program.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs promtool: run e2e/cluster/cluster tools prometheus"
        );
        eprintln!("skipped: no promtool; set PROMTOOL, or run e2e/cluster/cluster tools prometheus");
    }
    found.map(Command::new)
}

pub(super) fn passes(command: &mut Command) {
    let output = command.output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&printed));
}

#[test]
fn the_rules_are_valid() {
    let Some(mut promtool) = promtool() else { return };
    passes(promtool.args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(rules_file()));
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let Some(mut promtool) = promtool() else { return };
    passes(promtool.args(["test", "rules"]).args(tests()));
}

#[test]
fn each_alert_is_tested_to_fire_and_not_to_fire() {
    let (mut fires, mut rests) = (BTreeSet::new(), BTreeSet::new());
    for path in tests() {
        for case in list(&read(&path)["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"])) {
            let alert = text(&case["alertname"]).to_owned();
            for fired in list(&case["exp_alerts"]) {
                fires.insert((alert.clone(), text(&fired["exp_labels"]["severity"]).to_owned()));
            }
            if list(&case["exp_alerts"]).is_empty() {
                rests.insert(alert);
            }
        }
    }
    let wanted = rules()
        .into_iter()
        .map(|rule| (text(&rule["alert"]).to_owned(), text(&rule["labels"]["severity"]).to_owned()));
    let wanted: BTreeSet<_> = wanted.collect();
    assert_eq!(fires, wanted, "each alert fires with each severity in a test");
    assert_eq!(rests, wanted.into_iter().map(|(alert, _)| alert).collect(), "each alert rests in a test");
}

/// Metrics by name, each with the values of its labels.
pub(super) type Metrics = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Reads the metrics of a page, by the names of their samples.
fn metrics_of(page: &str) -> Metrics {
    let labels = Regex::new(r#"([a-z_0-9]+)="([^"]*)""#).unwrap();
    let mut metrics = Metrics::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find([' ', '{']).unwrap());
        let metric = metrics.entry(name.to_owned()).or_default();
        for label in labels.captures_iter(rest) {
            metric.entry(label[1].to_owned()).or_default().insert(label[2].to_owned());
        }
    }
    metrics
}

/// Returns the metrics of operators: those of a control plane over a folder, from its page, and those that only one in
/// Kubernetes has, as that registers them.
#[tokio::main(flavor = "current_thread")]
pub(super) async fn metrics() -> Metrics {
    let place = TempDir::new().unwrap();
    let path = |name: &str| place.path().join(name);
    let address = own_address();
    let start = Start {
        program: env!("CARGO_BIN_EXE_smidge").into(),
        dir: path("mesh"),
        state: path("state"),
        xds: (address, 15_012).into(),
        pages: (address, 15_014).into(),
        log: path("log"),
        flags: Vec::new(),
        user: None,
    };
    fs::create_dir(&start.dir).unwrap();
    put(&start.dir, "a.yaml", CONFLICT);
    let control_plane = start.run();
    control_plane.ready();
    let page = || control_plane.page("/metrics").unwrap_or_default();
    until("findings are counted", page, || page().contains("smidge_findings{"));
    let mut registry = Registry::with_prefix("smidge");
    fetch::reporting(&mut registry);
    injection::Metrics::register(registry.sub_registry_with_prefix("injector"));
    webhook::metrics::Metrics::register(registry.sub_registry_with_prefix("webhook"));
    lease::metrics::register(&mut registry, watch::channel(Leader::None).1);
    let watched = Watches::register(registry.sub_registry_with_prefix("watch"), Clock::system());
    // None of the watches runs.
    let client = kube::Client::try_from(kube::Config::new("http://192.0.2.1".parse().unwrap())).unwrap();
    drop(watches::spawn(&ClusterId::default(), &client, (&mpsc::channel(1).0, &watched), |_, _| ()));
    let mut in_kubernetes = String::new();
    encode(&mut in_kubernetes, &registry).unwrap();
    let mut metrics = metrics_of(&page());
    metrics.extend(metrics_of(&in_kubernetes));
    metrics
}

/// Returns the labels of a metric; panics if there is no such metric.
fn labels_of(metrics: &Metrics, name: &str) -> BTreeSet<String> {
    let others: BTreeMap<_, _> = OF_OTHERS.into();
    if let Some(labels) = others.get(name) {
        return labels.iter().map(|&label| label.to_owned()).collect();
    }
    let metric = metrics.get(name).unwrap_or_else(|| panic!("no operator has a metric {name}"));
    metric.keys().cloned().collect()
}

/// Returns the metrics of an expression, each with its matchers of labels: name, operator, value.
pub(super) fn selectors(expr: &str) -> Vec<(String, Vec<[String; 3]>)> {
    // Labels that are named outside of braces, and texts, are no metrics.
    let grouped = Regex::new(r"\b(by|on|without|ignoring) \([^)]*\)").unwrap();
    let texts = Regex::new(r#"(, )?"[^"]*"(, )?"#).unwrap();
    let selector = Regex::new(r"\b([a-z_][a-z_0-9]*)\b\s*(\(|\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"([a-z_]+)\s*(!=|=~|!~|=)\s*"([^"]*)""#).unwrap();
    let bare = grouped.replace_all(expr, "(");
    let mut found = Vec::new();
    let mut rest = &*bare;
    while let Some(next) = selector.captures(rest) {
        let (whole, name) = (next.get(0).unwrap(), &next[1]);
        let is_function = next.get(2).is_some_and(|it| it.as_str() == "(");
        let is_in_text = texts.find(rest).is_some_and(|text| text.start() < whole.start());
        if is_in_text {
            rest = &rest[texts.find(rest).unwrap().end()..];
            continue;
        }
        if !is_function && !WORDS.contains(&name) {
            let within = next.get(3).map_or("", |it| it.as_str());
            let matchers = matcher.captures_iter(within);
            let matchers = matchers.map(|it| [it[1].to_owned(), it[2].to_owned(), it[3].to_owned()]);
            found.push((name.to_owned(), matchers.collect()));
        }
        rest = &rest[whole.end()..];
    }
    found
}

#[test]
fn rules_read_what_operators_have() {
    let metrics = metrics();
    let grouped = Regex::new(r"\b(?:by|on) \(([^)]*)\)").unwrap();
    for rule in rules() {
        let (alert, expr) = (text(&rule["alert"]), text(&rule["expr"]));
        let mut known: BTreeSet<String> = OF_TARGETS.map(str::to_owned).into();
        let selectors = selectors(expr);
        assert!(!selectors.is_empty(), "{alert}: {expr}");
        for (name, matchers) in selectors {
            let labels = labels_of(&metrics, &name);
            for [label, operator, value] in matchers {
                assert!(labels.contains(&label), "{alert}: {name} has no label {label}, only {labels:?}");
                // What others count is not on a page here.
                let Some(values) = metrics.get(&name).and_then(|metric| metric.get(&label)) else { continue };
                let pattern = if operator.contains('~') { value.clone() } else { regex::escape(&value) };
                let pattern = Regex::new(&format!("^(?:{pattern})$")).unwrap();
                let exists = values.iter().any(|value| pattern.is_match(value));
                assert!(exists, "{alert}: {name} has no {label} {value:?}, only {values:?}");
            }
            known.extend(labels);
        }
        for label in grouped
            .captures_iter(expr)
            .flat_map(|it| it[1].split(", ").map(str::to_owned).collect::<Vec<_>>())
        {
            assert!(known.contains(&label), "{alert}: by {label}, which is a label of nothing in {expr}");
        }
    }
    for path in tests() {
        for series in list(&read(&path)["tests"]).iter().flat_map(|test| list(&test["input_series"])) {
            for (name, labels) in metrics_of(&format!("{} 0", text(&series["series"]))) {
                let known = labels_of(&metrics, &name);
                let unknown =
                    |label: &&String| !known.contains(*label) && !OF_TARGETS.contains(&label.as_str());
                assert_eq!(labels.keys().find(unknown), None, "{}: a label of {name}", path.display());
            }
        }
    }
}

#[test]
fn expressions_are_taken_apart() {
    let expr = r#"sum by (job) (rate(a_total{x!="b c", y=~"d|e"}[5m])) > 2 or label_replace(f, "g", "h", "", "") unless i offset 1h"#;
    let found = selectors(expr);
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a_total", "f", "i"]);
    assert_eq!(found[0].1, [["x", "!=", "b c"], ["y", "=~", "d|e"]].map(|it| it.map(str::to_owned)));
}

#[test]
fn each_alert_has_a_runbook_and_each_runbook_an_alert() {
    let folder = root().join("docs/runbooks");
    let index = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut alerts = BTreeMap::<String, BTreeSet<String>>::new();
    for rule in rules() {
        let alert = text(&rule["alert"]).to_owned();
        let annotations = &rule["annotations"];
        assert_eq!(annotations["runbook_url"], format!("docs/runbooks/{alert}.md"));
        for annotation in ["summary", "description"] {
            let words = text(&annotations[annotation]);
            assert!(words.ends_with('.') && !words.contains('\n'), "{alert}: {annotation}: {words:?}");
        }
        let severity = text(&rule["labels"]["severity"]).to_owned();
        assert!(["critical", "warning", "info"].contains(&severity.as_str()), "{alert}: {severity}");
        alerts.entry(alert).or_default().insert(severity);
    }
    let pages = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| !path.ends_with("README.md"));
    let pages: BTreeSet<_> =
        pages.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(pages, alerts.keys().cloned().collect());
    for (alert, severities) in alerts {
        let page = fs::read_to_string(folder.join(format!("{alert}.md"))).unwrap();
        let headings: Vec<_> = page.lines().filter(|line| line.starts_with('#')).collect();
        let wanted = ["## What it means", "## What users notice", "## How to look", "## What to do"];
        assert_eq!(headings, [&[format!("# {alert}").as_str()][..], &wanted].concat());
        let row = index.lines().find(|line| line.starts_with(&format!("| [{alert}]({alert}.md) |")));
        let row = row.unwrap_or_else(|| panic!("the README of runbooks has no row of {alert}"));
        let severity = page.lines().find(|line| line.starts_with("Severity: ")).unwrap();
        for word in severities {
            assert!(row.contains(&word) && severity.contains(&word), "{alert}: {word}: {row} {severity}");
        }
    }
}
