//! The dashboards of the chart (`files/dashboards`): they are what the generator makes, Grafana can place them, a real
//! promtool parses and computes their expressions, and what they read exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;
use serde_json::{Value, json};
use smidge::dashboards::Dashboard;
use smidge_traffic_metrics::families::{FAMILIES, Names};
use tempfile::TempDir;

use super::alerts::{Metrics, OF_TARGETS, list, metrics, passes, promtool, selectors, text};

/// Values of variables of Grafana in tests. No name begins with another one.
const VARIABLES: [(&str, &str); 7] = [
    ("$__rate_interval", "5m"),
    ("$__range", "1h"),
    ("$namespace", "shop"),
    ("$workload", "store"),
    ("$service", "store"),
    ("$kind", "Deployment"),
    ("$job", "smidge"),
];

/// Values of labels of closed sets; a matcher of another one would find nothing.
const CLOSED: [(&str, &[&str]); 3] = [
    ("reporter", &["source", "destination"]),
    ("outcome", &["success", "failure", "refused"]),
    ("mtls", &["true", "false"]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/smidge/files/dashboards")
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(&dashboard["panels"]).iter()
}

/// Returns every expression of a dashboard, with where it is. Of a query of values, the selector that it has.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let title = text(&dashboard["title"]);
    let targets = panels(dashboard).flat_map(|panel| {
        let of = text(&panel["title"]);
        list(&panel["targets"])
            .iter()
            .map(move |target| (format!("{title}, {of}"), text(&target["expr"]).to_owned()))
    });
    let queried =
        list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query");
    let values = Regex::new(r"^label_values\((.*), ([a-z_]+)\)$").unwrap();
    let variables = queried.map(|variable| {
        let query = text(&variable["query"]["query"]);
        let parts = values.captures(query).unwrap_or_else(|| panic!("{title}: {query}"));
        // The label as well has to be one of the metric.
        (
            format!("{title}, ${}", text(&variable["name"])),
            format!("count by ({}) ({})", &parts[2], &parts[1]),
        )
    });
    targets.chain(variables).collect()
}

fn substituted(expr: &str) -> String {
    let mut expr = expr.to_owned();
    for (name, value) in VARIABLES {
        expr = expr.replace(name, value);
    }
    assert!(!expr.contains('$'), "a variable without a value: {expr}");
    expr
}

fn all() -> Vec<Value> {
    Dashboard::ALL.into_iter().map(Dashboard::json).collect()
}

#[test]
fn the_chart_has_what_the_generator_makes() {
    let is_update = std::env::var_os("UPDATE_EXPECT").is_some();
    let wanted: BTreeMap<_, _> =
        Dashboard::ALL.into_iter().map(|of| (format!("{}.json", of.name()), of.text())).collect();
    if is_update {
        fs::create_dir_all(folder()).unwrap();
        for (name, text) in &wanted {
            fs::write(folder().join(name), text).unwrap();
        }
    }
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let names: BTreeSet<_> =
        files.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(names, wanted.keys().cloned().collect());
    for (name, text) in wanted {
        let file = fs::read_to_string(folder().join(&name)).unwrap();
        assert!(file == text, "{name} is stale; UPDATE_EXPECT=1 rewrites it");
    }
}

#[test]
fn grafana_can_place_every_panel() {
    let core = ["row", "stat", "timeseries", "bargauge"];
    let units = ["short", "reqps", "ops", "percentunit", "ms", "s", "bytes"];
    let mut uids = BTreeSet::new();
    for dashboard in all() {
        let title = text(&dashboard["title"]);
        assert!(uids.insert(text(&dashboard["uid"]).to_owned()), "{title}");
        assert!(text(&dashboard["uid"]).len() <= 40, "{title}: Grafana refuses longer ones");
        let (mut ids, mut taken, mut titles) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for panel in panels(&dashboard) {
            let of = format!("{title}, {}", text(&panel["title"]));
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{of}");
            let [x, y, width, height] =
                ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(width > 0 && height > 0 && x + width <= 24, "{of}");
            for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{of} covers another panel at {cell:?}");
            }
            assert!(core.contains(&text(&panel["type"])), "{of}");
            if panel["type"] == "row" {
                continue;
            }
            assert!(titles.insert(of.clone()), "{of} is there twice");
            assert!(text(&panel["description"]).ends_with('.'), "{of}");
            assert!(units.contains(&text(&panel["fieldConfig"]["defaults"]["unit"])), "{of}");
            let targets = list(&panel["targets"]);
            assert!(!targets.is_empty(), "{of}");
            let names: BTreeSet<_> = targets.iter().map(|target| text(&target["refId"])).collect();
            assert_eq!(names.len(), targets.len(), "{of}");
            assert!(targets.iter().all(|target| target["datasource"]["uid"] == "${datasource}"), "{of}");
        }
    }
}

#[test]
fn variables_are_declared_before_they_are_used() {
    let used = Regex::new(r"\$\{?([a-z_]+)").unwrap();
    for dashboard in all() {
        let mut known: BTreeSet<String> = ["__rate_interval", "__range"].map(str::to_owned).into();
        let mut read = BTreeSet::new();
        let mut reads = |text: &str, known: &BTreeSet<String>| {
            for name in used.captures_iter(text).map(|it| it[1].to_owned()) {
                assert!(known.contains(&name), "{}: ${name} in {text}", dashboard["title"]);
                read.insert(name);
            }
        };
        for variable in list(&dashboard["templating"]["list"]) {
            reads(&variable["query"].to_string(), &known);
            reads(&variable["datasource"].to_string(), &known);
            known.insert(text(&variable["name"]).to_owned());
        }
        panels(&dashboard).for_each(|panel| reads(&panel["targets"].to_string(), &known));
        known.retain(|name| !name.starts_with("__") && !read.contains(name));
        assert_eq!(known, BTreeSet::new(), "{}: variables that nothing uses", dashboard["title"]);
    }
}

#[test]
fn labels_in_legends_are_those_of_the_results() {
    let named = Regex::new(r"\{\{([a-z_]+)\}\}").unwrap();
    let grouped = Regex::new(r"\bby \(([^)]*)\)").unwrap();
    for dashboard in all() {
        for (panel, target) in
            panels(&dashboard).flat_map(|panel| list(&panel["targets"]).iter().map(move |it| (panel, it)))
        {
            let (expr, legend) = (text(&target["expr"]), text(&target["legendFormat"]));
            let groups: Vec<BTreeSet<String>> = grouped
                .captures_iter(expr)
                .map(|it| it[1].split(", ").map(str::to_owned).collect())
                .collect();
            for label in named.captures_iter(legend) {
                let has = groups.iter().all(|group| group.contains(&label[1]));
                assert!(!groups.is_empty() && has, "{}: {legend} of {expr}", panel["title"]);
            }
        }
    }
}

#[test]
fn promtool_parses_every_expression() {
    let Some(mut promtool) = promtool() else { return };
    let dashboards = all();
    let rules =
        dashboards.iter().flat_map(expressions).enumerate().map(
            |(number, (_, expr))| json!({"record": format!("panel:{number}"), "expr": substituted(&expr)}),
        );
    let rules: Vec<_> = rules.collect();
    assert!(rules.len() > 70, "{}", rules.len());
    let place = TempDir::new().unwrap();
    let file = place.path().join("rules.yaml");
    // JSON is YAML.
    fs::write(&file, json!({"groups": [{"name": "dashboards", "rules": rules}]}).to_string()).unwrap();
    passes(promtool.args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(file));
}

/// Returns the metrics of an operator, those of its traffic by the table.
fn known() -> Metrics {
    let mut known = metrics();
    for family in FAMILIES.iter().filter(|family| family.names == Names::Smidge) {
        let of = |label: &'static str| {
            let closed = CLOSED.iter().find(|(name, _)| *name == label).map_or(&[][..], |(_, values)| values);
            (label.to_owned(), closed.iter().map(|&value| value.to_owned()).collect())
        };
        known.insert(family.full_name(), family.label_names().map(of).collect());
    }
    known
}

#[test]
fn expressions_read_what_operators_have() {
    let known = known();
    let grouped = Regex::new(r"\bby \(([^)]*)\)").unwrap();
    let any_of = Regex::new(r#"\{__name__=~"([a-z_|]+)", "#).unwrap();
    for (place, expr) in all().iter().flat_map(expressions) {
        // A selector of several metrics is one of each.
        let names: Vec<String> = any_of
            .captures(&expr)
            .map_or_else(|| vec![String::new()], |found| found[1].split('|').map(str::to_owned).collect());
        for name in names {
            let expr = substituted(&any_of.replace_all(&expr, format!("{name}{{")));
            let selectors = selectors(&expr);
            assert!(!selectors.is_empty(), "{place}: {expr}");
            let mut labels: BTreeSet<String> = OF_TARGETS.map(str::to_owned).into();
            for (name, matchers) in selectors {
                let metric =
                    known.get(&name).unwrap_or_else(|| panic!("{place}: no operator has a metric {name}"));
                for [label, operator, value] in matchers {
                    if OF_TARGETS.contains(&label.as_str()) {
                        continue;
                    }
                    let values = metric.get(&label);
                    let values = values.unwrap_or_else(|| panic!("{place}: {name} has no label {label}"));
                    let is_closed = !value.is_empty() && !VARIABLES.iter().any(|(_, of)| *of == value);
                    let pattern = if operator.contains('~') { value.clone() } else { regex::escape(&value) };
                    let pattern = Regex::new(&format!("^(?:{pattern})$")).unwrap();
                    let exists = !is_closed || values.iter().any(|value| pattern.is_match(value));
                    assert!(exists, "{place}: {name} has no {label} {value:?}, only {values:?}");
                }
                labels.extend(metric.keys().cloned());
            }
            for label in grouped
                .captures_iter(&expr)
                .flat_map(|it| it[1].split(", ").map(str::to_owned).collect::<Vec<_>>())
            {
                assert!(
                    labels.contains(&label),
                    "{place}: by {label}, which is a label of nothing in {expr}"
                );
            }
        }
    }
}

/// Returns the first expression of a panel.
fn expression(dashboard: Dashboard, title: &str) -> String {
    let json = dashboard.json();
    let panel = panels(&json).find(|panel| panel["title"] == title && panel["type"] != "row");
    substituted(text(&panel.unwrap_or_else(|| panic!("no panel {title}"))["targets"][0]["expr"]))
}

/// Returns the series of a counter of two replicas, each of which grows by this number a minute.
fn series(name: &str, labels: &str, per_minute: u32) -> Vec<Value> {
    let replica = |replica: &str| {
        let target = format!("job=\"smidge\", instance=\"{replica}\"");
        json!({"series": format!("{name}{{{target}, {labels}}}"), "values": format!("0+{per_minute}x70")})
    };
    ["10.0.0.1:15014", "10.0.0.2:15014"].map(replica).into()
}

/// Returns what the proxies of the workload `store` and of its caller have counted, over two replicas.
fn counted() -> Vec<Value> {
    let calls = |reporter: &str, version: &str| {
        format!(
            "reporter=\"{reporter}\", source_namespace=\"shop\", source_kind=\"Deployment\", source_workload=\"web\", \
             destination_namespace=\"shop\", destination_kind=\"Deployment\", destination_workload=\"{version}\", mtls=\"true\""
        )
    };
    let backend = |backend: &str| {
        format!(
            "{}, service_namespace=\"shop\", service=\"store\", backend=\"{backend}\"",
            calls("source", backend)
        )
    };
    let answer = |outcome: &str, code: u16| {
        format!("outcome=\"{outcome}\", response_flags=\"-\", response_code=\"{code}\"")
    };
    let requests = "smidge_requests_total";
    let store = calls("destination", "store");
    let plain = store.replace("mtls=\"true\"", "mtls=\"false\"");
    let mut all = vec![
        series(requests, &format!("{store}, {}", answer("success", 200)), 240),
        series(requests, &format!("{store}, {}", answer("failure", 503)), 60),
        series(requests, &format!("{plain}, {}", answer("refused", 403)), 100),
        series(requests, &format!("{}, {}", calls("destination", "broken"), answer("failure", 500)), 30),
        series(requests, &format!("{}, {}", backend("store-v1"), answer("success", 200)), 90),
        series(requests, &format!("{}, {}", backend("store-v2"), answer("failure", 500)), 30),
    ];
    for (bound, count) in [("10.0", 100), ("25.0", 180), ("50.0", 200), ("+Inf", 200)] {
        let labels = format!("{store}, le=\"{bound}\"");
        all.push(series("smidge_request_duration_milliseconds_bucket", &labels, count));
    }
    all.concat()
}

#[test]
fn expressions_give_the_figures_of_known_series() {
    let Some(mut promtool) = promtool() else { return };
    let case = |dashboard, title: &str, samples: &[(&str, f64)]| {
        // As this promtool compares every digit.
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        let samples: Vec<_> = samples
            .iter()
            .map(|(labels, value)| json!({"labels": labels, "value": rounded(*value)}))
            .collect();
        let expr = format!("round({}, 0.0001)", expression(dashboard, title));
        json!({"expr": expr, "eval_time": "60m", "exp_samples": samples})
    };
    let store = "{destination_namespace=\"shop\", destination_workload=\"store\"}";
    let broken = "{destination_namespace=\"shop\", destination_workload=\"broken\"}";
    let cases = [
        // 2 replicas of 240 + 60 + 100 and 30 a minute.
        case(Dashboard::Mesh, "Requests", &[("{}", 860.0 / 60.0)]),
        // Refused requests do not count.
        case(Dashboard::Mesh, "Success rate", &[("{}", 480.0 / 660.0)]),
        // A workload of which all requests fail has a rate.
        case(Dashboard::Mesh, "Lowest success rate", &[(broken, 0.0), (store, 0.8)]),
        case(Dashboard::Mesh, "Refused", &[("{}", 200.0 / 60.0)]),
        case(Dashboard::Workload, "Success rate", &[("{}", 0.8)]),
        case(Dashboard::Workload, "p50", &[("{}", 10.0)]),
        // The bucket from 25 to 50 ms has the last tenth: 9/10 of it.
        case(Dashboard::Workload, "p99", &[("{}", 47.5)]),
        case(Dashboard::Workload, "mTLS", &[("{}", 0.75)]),
        case(
            Dashboard::Workload,
            "Refused by caller",
            &[("{source_namespace=\"shop\", source_workload=\"web\"}", 200.0 / 60.0)],
        ),
        case(
            Dashboard::Split,
            "Share of requests",
            &[("{backend=\"store-v1\"}", 0.75), ("{backend=\"store-v2\"}", 0.25)],
        ),
        case(
            Dashboard::Split,
            "Success rate",
            &[("{backend=\"store-v1\"}", 1.0), ("{backend=\"store-v2\"}", 0.0)],
        ),
    ];
    let place = TempDir::new().unwrap();
    let file = place.path().join("figures.yaml");
    let test = json!({"interval": "1m", "input_series": counted(), "promql_expr_test": cases});
    let content = json!({"rule_files": [], "evaluation_interval": "1m", "tests": [test]});
    fs::write(&file, content.to_string()).unwrap();
    passes(promtool.args(["test", "rules"]).arg(file));
}
