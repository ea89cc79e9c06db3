//! The expression of the queries, by a real promtool: what a series has counted within a window, however it begins and ends.

use std::{fmt::Write as _, time::Duration};

use serde_json::json;
use smidge_traffic_metrics::promql;
use tempfile::TempDir;

use super::{super::alerts, deployments, receiver};

/// Series of one target for ten minutes, a sample each 10 s: the 55th is at the beginning of a window of a minute.
struct Case {
    name: &'static str,
    instance: &'static str,
    values: &'static str,
    /// Number of calls within the last minute; `None`: no sample.
    expected: Option<u32>,
}

/// Targets: one that is always read, one that ended 20 s ago, one that was found 20 s ago, one that failed until then.
const TARGETS: [(&str, &str); 4] =
    [("always", "1x60"), ("ended", "1x58 stale"), ("found", "_x58 1 1 1"), ("failed", "0x58 1 1")];

const fn case(
    name: &'static str,
    instance: &'static str,
    values: &'static str,
    expected: Option<u32>,
) -> Case {
    Case { name, instance, values, expected }
}

const CASES: [Case; 11] = [
    case("goes-on", "always", "100+1x60", Some(6)),
    case("rests", "always", "7x60", Some(0)),
    case("was-born", "always", "_x57 20 25 25 25", Some(25)),
    case("was-born-now", "always", "_x60 3", Some(3)),
    case("restarted", "always", "100x57 3 4 4", Some(4)),
    case("was-forgotten", "always", "7x50 stale", None),
    case("ended", "ended", "0+1x58 stale", Some(4)),
    case("was-born-and-ended", "ended", "_x57 8 9 stale", Some(9)),
    case("was-found", "found", "_x58 500 505 507", Some(7)),
    case("was-found-once", "found", "_x60 500", Some(0)),
    case("was-not-read", "failed", "_x59 900 903", Some(3)),
];

#[test]
fn a_window_has_exactly_what_was_counted_in_it() {
    let Some(mut promtool) = alerts::promtool() else { return };
    let queries = promql::queries(&deployments(), receiver().directory(), false).unwrap();
    let received = queries.iter().find(|query| query.purpose == "requests received").unwrap();
    let labels = |case: &Case| {
        let name = case.name;
        format!(
            r#"destination_namespace="shop",destination_workload="web",source_workload="{name}",outcome="success""#
        )
    };
    let mut series = Vec::new();
    for (instance, values) in TARGETS {
        series.push(
            json!({"series": format!(r#"up{{job="smidge",instance="{instance}"}}"#), "values": values}),
        );
    }
    let mut samples = Vec::new();
    for case in &CASES {
        let (labels, instance) = (labels(case), case.instance);
        let of_target = format!(
            r#"{labels},reporter="destination",destination_kind="Deployment",job="smidge",instance="{instance}""#
        );
        series
            .push(json!({"series": format!("smidge_requests_total{{{of_target}}}"), "values": case.values}));
        samples.extend(case.expected.map(|value| json!({"labels": format!("{{{labels}}}"), "value": value})));
    }
    let tests = json!([
        {
            "interval": "10s", "input_series": series,
            "promql_expr_test": [{"expr": received.text, "eval_time": "10m", "exp_samples": samples}],
        },
        rare_scrapes(&labels(&CASES[0])),
    ]);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("expression.yaml");
    let test = json!({"rule_files": [], "evaluation_interval": "10s", "tests": tests}).to_string();
    std::fs::write(&file, test).unwrap();
    let output = promtool.args(["test", "rules"]).arg(&file).output().unwrap();
    let mut printed = String::new();
    for part in [output.stdout, output.stderr] {
        writeln!(printed, "{}", String::from_utf8_lossy(&part)).unwrap();
    }
    assert!(output.status.success(), "{printed}");
}

/// A window that is shorter than the interval of scrapes has what the scrape in it has added, or nothing.
fn rare_scrapes(labels: &str) -> serde_json::Value {
    let mut question = deployments();
    question.window = Duration::from_secs(10);
    let queries = promql::queries(&question, receiver().directory(), false).unwrap();
    let series = |name: &str, more: &str| format!(r#"{name}{{{more}job="smidge",instance="a"}}"#);
    let of_target = format!(r#"{labels},reporter="destination",destination_kind="Deployment","#);
    let at = |time: &str, value: u32| {
        let samples = json!([{"labels": format!("{{{labels}}}"), "value": value}]);
        json!({"expr": queries[0].text, "eval_time": time, "exp_samples": samples})
    };
    json!({
        "interval": "1m",
        "input_series": [
            {"series": series("up", ""), "values": "1x20"},
            {"series": series("smidge_requests_total", &of_target), "values": "0+12x20"},
        ],
        "promql_expr_test": [at("10m5s", 12), at("10m20s", 0), at("10m59s", 0), at("11m", 12)],
    })
}
