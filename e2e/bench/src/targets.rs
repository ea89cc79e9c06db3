//! Compares the figures with the targets of issue and design.
//!
//! Called by `results` for the last table and for the JSON. Pure. A target that has no figure in a run is reported as
//! not measured, one whose figure the noise of the machine hides as undecided; none is ever asserted.

use serde::Serialize;

use crate::figures::Row;

/// One target.
struct Target {
    /// Row, and the figure in it that is judged.
    row: &'static str,
    figure: &'static str,
    /// Description of the figure, for readers.
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

/// Target with the verdict of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    pub row: &'static str,
    pub figure: &'static str,
    /// Description of the figure, for readers.
    pub what: &'static str,
    /// The target, with its unit.
    pub target: String,
    /// Value of the figure.
    pub value: Option<f64>,
    pub unit: &'static str,
    /// For a ratio: the figure and its baseline.
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

const P50: (&str, &str, &str) = ("last_p50_ms", "baseline_p50_ms", "ms");
const P99: (&str, &str, &str) = ("last_p99_ms", "baseline_p99_ms", "ms");
const CPU: (&str, &str, &str) = ("cpu_ms", "baseline_cpu_ms", "ms");

/// Comparison of a path with itself: equal paths differ by as much as its quartiles.
pub const CONTROL: &str = "sidecars-minimal-again";

/// Targets in the order of the design.
const TARGETS: &[Target] = &[
    ratio(
        "split-all",
        "ratio_p50",
        "split edit that all proxies see: p50 against the baseline",
        AtMost(1.3),
        P50,
    ),
    ratio(
        "split-all",
        "ratio_p99",
        "split edit that all proxies see: p99 against the baseline",
        AtMost(1.3),
        P99,
    ),
    ratio(
        "split-all",
        "ratio_cpu",
        "split edit that all see: CPU against the baseline server's",
        AtMost(2.0),
        CPU,
    ),
    plain("split-all", "mb", "split edit that all proxies see: sent in all", AtMost(1.0), "MB"),
    plain("split-few", "last_p99_ms", "split edit with few proxies, all see it: p99", AtMost(10.0), "ms"),
    ratio(
        "endpoint-all",
        "ratio_p50",
        "endpoint change that all see: p50 against the baseline",
        AtMost(1.3),
        P50,
    ),
    ratio(
        "endpoint-all",
        "ratio_p99",
        "endpoint change that all see: p99 against the baseline",
        AtMost(1.3),
        P99,
    ),
    ratio("endpoint-all", "ratio_cpu", "the same: CPU against the baseline server's", AtMost(2.0), CPU),
    plain(
        "endpoint-few",
        "last_p99_ms",
        "endpoint change with few proxies, all see it: p99",
        AtMost(10.0),
        "ms",
    ),
    plain("split-some", "last_p99_ms", "split edit that ten Services see: p99", AtMost(3.0), "ms"),
    plain("endpoint-some", "last_p99_ms", "endpoint change that ten Services see: p99", AtMost(3.0), "ms"),
    plain("endpoint-some", "cpu_ms", "the same: CPU of the operator for each", AtMost(1.0), "ms"),
    plain("endpoint-churn", "last_p99_ms", "the same under churn elsewhere: p99", AtMost(20.0), "ms"),
    plain(
        "connect",
        "configured_max_ms",
        "new proxies at once: the last is configured",
        AtMost(2000.0),
        "ms",
    ),
    plain("reconnect", "configured_max_ms", "all come back: the last is configured", AtMost(1000.0), "ms"),
    plain("reconnect", "body_bytes_each", "all come back: resources sent to each", AtMost(1024.0), "bytes"),
    plain("connect", "kb_each", "new proxies at once: memory for each", AtMost(100.0), "KB"),
    plain("many", "kb_each", "as many proxies as there are: memory for each", AtMost(100.0), "KB"),
    plain("many", "peak_mb", "the same: memory in all, at the most", AtMost(1000.0), "MB"),
    plain("cold-start", "lists_to_first_proxy_s", "cold start: serving after the lists", AtMost(2.0), "s"),
    plain("leaf-certificates", "per_second", "leaf certificates on one core", AtLeast(5000.0), "/s"),
    plain("inject", "answer_p99_ms", "injection of a pod: p99", AtMost(1.0), "ms"),
    plain("sidecars-ours", "added_p50_ratio", "sidecars: added p50 against minimal mTLS", AtMost(1.05), "×"),
    plain("sidecars-ours", "added_p99_ratio", "sidecars: added p99 against minimal mTLS", AtMost(1.05), "×"),
    plain(
        "sidecars-ours",
        "per_second_ratio",
        "sidecars: throughput against minimal mTLS",
        AtLeast(0.95),
        "×",
    ),
];

/// Judges every target by the rows of a run.
pub fn judge(rows: &[Row]) -> Vec<Judged> {
    TARGETS.iter().map(|target| target.judge(rows)).collect()
}

impl Bound {
    fn is_met(self, value: f64) -> bool {
        match self {
            AtMost(limit) => value <= limit,
            AtLeast(limit) => value >= limit,
        }
    }
}

impl Target {
    fn judge(&self, rows: &[Row]) -> Judged {
        let Self { row: id, figure, what, bound, unit, of } = *self;
        let find = |id: &str| rows.iter().find(|row| row.id == id);
        let row = find(id);
        let value = row.and_then(|row| row.get(figure));
        let (sign, limit) = match bound {
            AtMost(limit) => ("≤", limit),
            AtLeast(limit) => ("≥", limit),
        };
        // Quartiles on both sides of the bound leave it undecided; so does a bound that a path misses against itself.
        let quarters = |row: Option<&Row>| {
            let part = |which: &str| Some(bound.is_met(row?.get(&format!("{figure}{which}"))?));
            Some((part("_low")?, part("_high")?))
        };
        let is_hidden = quarters(row).is_some_and(|(low, high)| {
            low != high || quarters(find(CONTROL)).is_some_and(|control| control != (true, true))
        });
        let verdict = match value.map(|value| bound.is_met(value)) {
            Some(_) if is_hidden => "undecided",
            Some(true) => "met",
            Some(false) => "missed",
            None => "not measured",
        };
        let of = of.and_then(|(one, other, unit)| Some((row?.get(one)?, row?.get(other)?, unit)));
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

    #[test]
    fn what_the_machine_hides_is_undecided() {
        let verdict = |ours: [f64; 3], control: [f64; 2]| {
            let row = |id: &str, parts: &[(&str, f64)]| {
                let mut row = Row::new(id, id);
                for (part, value) in parts {
                    row.set(&format!("added_p50_ratio{part}"), *value);
                }
                row
            };
            let ours = row("sidecars-ours", &[("_low", ours[0]), ("", ours[1]), ("_high", ours[2])]);
            let control = row(CONTROL, &[("_low", control[0]), ("_high", control[1])]);
            let judged = judge(&[ours, control]);
            judged.iter().find(|it| it.figure == "added_p50_ratio").map(|it| it.verdict)
        };
        assert_eq!(verdict([1.01, 1.02, 1.04], [0.99, 1.01]), Some("met"));
        assert_eq!(verdict([1.10, 1.20, 1.30], [0.99, 1.01]), Some("missed"));
        assert_eq!(verdict([1.01, 1.02, 1.06], [0.99, 1.01]), Some("undecided"), "ours are on both sides");
        assert_eq!(
            verdict([1.01, 1.02, 1.04], [0.99, 1.06]),
            Some("undecided"),
            "equal paths are apart by that"
        );
    }
}
