//! What the figures are to reach: each target of issue and design, beside the figure that it is about.
//!
//! Asked by `report` for the last table and for the JSON. Pure. A target that has no figure in a run is named as not
//! measured; none is ever asserted.

use serde::Serialize;

use crate::figures::Row;

/// One target.
struct Target {
    /// The row and the figure in it that is judged.
    row: &'static str,
    figure: &'static str,
    /// What is judged, for people; the row says where.
    what: &'static str,
    bound: Bound,
    unit: &'static str,
    /// For a ratio: the figures that were divided, and their unit.
    of: Option<(&'static str, &'static str, &'static str)>,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A target with what a run says of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    pub row: &'static str,
    pub figure: &'static str,
    /// What was measured, for people.
    pub what: String,
    /// The target, with its unit.
    pub target: String,
    /// What is judged.
    pub value: Option<f64>,
    pub unit: &'static str,
    /// For a ratio: the figure and its floor.
    pub of: Option<(f64, f64, &'static str)>,
    pub verdict: &'static str,
}

use Bound::{AtLeast, AtMost};

const fn plain(
    row: &'static str,
    figure: &'static str,
    what: &'static str,
    bound: Bound,
    unit: &'static str,
) -> Target {
    Target { row, figure, what, bound, unit, of: None }
}

const fn ratio(
    row: &'static str,
    figure: &'static str,
    what: &'static str,
    bound: Bound,
    of: (&'static str, &'static str, &'static str),
) -> Target {
    Target { row, figure, what, bound, unit: "×", of: Some(of) }
}

const P50: (&str, &str, &str) = ("last_p50_ms", "floor_p50_ms", "ms");
const P99: (&str, &str, &str) = ("last_p99_ms", "floor_p99_ms", "ms");
const CPU: (&str, &str, &str) = ("cpu_ms", "floor_cpu_ms", "ms");

/// In the order in which the design has them.
const TARGETS: &[Target] = &[
    ratio("split-all", "ratio_p50", "p50 against the floor", AtMost(1.3), P50),
    ratio("split-all", "ratio_p99", "p99 against the floor", AtMost(1.3), P99),
    ratio("split-all", "ratio_cpu", "CPU against the null server's", AtMost(2.0), CPU),
    plain("split-all", "mb", "sent in all", AtMost(1.0), "MB"),
    plain("split-few", "last_p99_ms", "p99", AtMost(10.0), "ms"),
    ratio("endpoint-all", "ratio_p50", "p50 against the floor", AtMost(1.3), P50),
    ratio("endpoint-all", "ratio_p99", "p99 against the floor", AtMost(1.3), P99),
    ratio("endpoint-all", "ratio_cpu", "CPU against the null server's", AtMost(2.0), CPU),
    plain("endpoint-few", "last_p99_ms", "p99", AtMost(10.0), "ms"),
    plain("split-some", "last_p99_ms", "p99", AtMost(3.0), "ms"),
    plain("endpoint-some", "last_p99_ms", "p99", AtMost(3.0), "ms"),
    plain("endpoint-some", "cpu_ms", "CPU of the operator for each", AtMost(1.0), "ms"),
    plain("endpoint-churn", "last_p99_ms", "p99", AtMost(20.0), "ms"),
    plain("connect", "configured_max_ms", "the last is configured", AtMost(2000.0), "ms"),
    plain("reconnect", "configured_max_ms", "the last is configured", AtMost(1000.0), "ms"),
    plain("reconnect", "body_bytes_each", "resources sent to each", AtMost(1024.0), "bytes"),
    plain("connect", "kb_each", "memory for each proxy", AtMost(100.0), "KB"),
    plain("many", "kb_each", "memory for each proxy", AtMost(100.0), "KB"),
    plain("many", "peak_mb", "memory in all, at the most", AtMost(1000.0), "MB"),
    plain("cold-start", "lists_to_first_proxy_s", "serving after the lists arrive", AtMost(2.0), "s"),
    plain("leaf-certificates", "per_second", "leaf certificates on one core", AtLeast(5000.0), "/s"),
    plain("inject", "answer_p99_ms", "p99", AtMost(1.0), "ms"),
    plain("sidecars-ours", "added_p50_ratio", "added p50 against a minimal mTLS hop", AtMost(1.05), "×"),
    plain("sidecars-ours", "added_p99_ratio", "added p99 against a minimal mTLS hop", AtMost(1.05), "×"),
    plain("sidecars-ours", "per_second_ratio", "throughput against a minimal mTLS hop", AtLeast(0.95), "×"),
];

/// Every target, judged by what was measured.
pub fn judge(rows: &[Row]) -> Vec<Judged> {
    TARGETS.iter().map(|target| target.judge(rows.iter().find(|row| row.id == target.row))).collect()
}

impl Target {
    fn judge(&self, row: Option<&Row>) -> Judged {
        let Self { row: id, figure, what, bound, unit, of } = *self;
        let value = row.and_then(|row| row.get(figure));
        let (sign, limit) = match bound {
            AtMost(limit) => ("≤", limit),
            AtLeast(limit) => ("≥", limit),
        };
        let is_met = value.map(|value| match bound {
            AtMost(limit) => value <= limit,
            AtLeast(limit) => value >= limit,
        });
        let verdict = match is_met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not measured",
        };
        let of = of.and_then(|(one, other, unit)| Some((row?.get(one)?, row?.get(other)?, unit)));
        let what = row.map_or_else(|| what.to_owned(), |row| format!("{}: {what}", row.what));
        Judged { row: id, figure, what, target: format!("{sign} {limit} {unit}"), value, unit, of, verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_up_to_its_bound_and_not_measured_without_a_figure() {
        let verdicts = |rows: &[Row], id: &str| {
            let judged = judge(rows).into_iter().filter(|judged| judged.row == id);
            judged.map(|judged| judged.verdict).collect::<Vec<_>>()
        };
        let row = |id: &str, figure: &str, value: f64| {
            let mut row = Row::new(id, id);
            row.set(figure, value);
            [row]
        };
        assert_eq!(verdicts(&row("endpoint-churn", "last_p99_ms", 20.0), "endpoint-churn"), ["met"]);
        assert_eq!(verdicts(&row("endpoint-churn", "last_p99_ms", 20.1), "endpoint-churn"), ["missed"]);
        assert_eq!(verdicts(&row("leaf-certificates", "per_second", 5000.0), "leaf-certificates"), ["met"]);
        assert_eq!(
            verdicts(&row("leaf-certificates", "per_second", 4999.0), "leaf-certificates"),
            ["missed"]
        );
        assert_eq!(verdicts(&[], "endpoint-churn"), ["not measured"]);
    }
}
