//! Formats rows as tables in Markdown, which are readable on a terminal, too: the changes, what sidecars add,
//! everything else, and the targets.
//!
//! Called by `results`, and by `sidecars` for its own. Rounds, and leaves out figures that only programs read.

use std::fmt::Write as _;

use crate::{figures::Row, targets::Judged};

/// Columns of changes, with the figure of each.
const CHANGES: [(&str, &str); 13] = [
    ("p50", "last_p50_ms"),
    ("p99", "last_p99_ms"),
    ("max", "last_max_ms"),
    ("without a clock", "late_clock"),
    ("baseline p50", "baseline_p50_ms"),
    ("baseline p99", "baseline_p99_ms"),
    ("× p50", "ratio_p50"),
    ("× p99", "ratio_p99"),
    ("CPU", "cpu_ms"),
    ("baseline CPU", "baseline_cpu_ms"),
    ("× CPU", "ratio_cpu"),
    ("bytes on the wire", "wire_bytes"),
    ("resources", "resources"),
];

/// Columns of what sidecars add, with the figure of each, and the figure for comparison.
const SIDECARS: [(&str, &str, Option<&str>); 7] = [
    ("p50", "p50_us", None),
    ("p99", "p99_us", None),
    ("added p50", "added_p50_us", Some("added_p50")),
    ("added p99", "added_p99_us", Some("added_p99")),
    ("CPU of both", "proxies_cpu_us", Some("proxies_cpu")),
    ("requests/s", "per_second", Some("per_second")),
    ("CPU at that", "full_cpu_us", Some("full_cpu")),
];

/// Figures of the other rows, if they have them: label, figure, unit. The rest is in the JSON only.
const OTHERS: [(&str, &str, &str); 37] = [
    ("first proxy configured after the lists", "lists_to_first_proxy_s", " s"),
    ("after the start", "start_to_first_proxy_s", " s"),
    ("last configured", "configured_max_ms", " ms"),
    ("median", "configured_p50_ms", " ms"),
    ("90 of 100", "configured_p90_ms", " ms"),
    ("99 of 100", "configured_p99_ms", " ms"),
    ("last configured after the process began", "start_to_last_s", " s"),
    ("baseline of the last", "baseline_max_ms", " ms"),
    ("answer p50", "answer_p50_ms", " ms"),
    ("p99", "answer_p99_ms", " ms"),
    ("CPU", "cpu_ms", " ms"),
    ("baseline CPU", "baseline_cpu_ms", " ms"),
    ("CPU of the client", "client_cpu_ms", " ms"),
    ("resident", "resident_mb", " MB"),
    ("most ever", "peak_mb", " MB"),
    ("of it for each proxy", "kb_each", " KB"),
    ("resources for each", "body_bytes_each", " bytes"),
    ("on the wire for each", "wire_bytes_each", " bytes"),
    ("resources held by each", "held_each", ""),
    ("tries beyond the first", "retries", ""),
    ("memory before", "before_mb", " MB"),
    ("and then", "then_mb", " MB"),
    ("refusals", "nacks", ""),
    ("streams throttled", "throttled", ""),
    ("changes", "made", ""),
    ("in", "took_s", " s"),
    ("snapshots", "publishes", ""),
    ("streams woken", "woken", ""),
    ("behind them", "behind_ms", " ms"),
    ("per second", "per_second", ""),
    ("CPU for each second", "cpu_ms_per_s", " ms"),
    ("series of each", "series", ""),
    ("bytes of a push", "push_bytes", ""),
    ("pushes each second", "pushes_per_s", ""),
    ("answered", "pushes_answered_per_s", ""),
    ("dropped each second", "dropped_per_s", ""),
    ("page", "page_mb", " MB"),
];

/// Returns all tables. Without targets, theirs is left out.
pub fn tables(rows: &[Row], targets: &[Judged]) -> String {
    let (changes, others): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.get("last_p50_ms").is_some());
    let (ways, others): (Vec<&Row>, Vec<&Row>) =
        others.into_iter().partition(|row| row.id.starts_with("sidecars-"));
    let mut tables = vec![changes_table(&changes)];
    if !ways.is_empty() {
        tables.push(sidecars(&ways));
    }
    tables.push(others_table(&others));
    if !targets.is_empty() {
        tables.push(targets_table(targets));
    }
    tables.join("\n")
}

/// Returns the table of what sidecars add.
pub fn sidecars(rows: &[&Row]) -> String {
    let mut table = Table::new("path (times in µs)", &SIDECARS.map(|(head, ..)| head));
    for row in rows {
        let cell = |(_, figure, compared): &(&str, &str, Option<&str>)| {
            let plain = row.get(figure).map_or("–".to_owned(), |value| format!("{value:.0}"));
            let part = |which: &str| row.get(&format!("{}_ratio{which}", (*compared)?));
            match (part(""), part("_low"), part("_high")) {
                (Some(ratio), Some(low), Some(high)) => {
                    format!("{plain} (× {ratio:.3}, {low:.2}–{high:.2})")
                }
                _ => plain,
            }
        };
        table.line(&row.what, SIDECARS.iter().map(cell).collect());
    }
    table.text()
        + "\n× is against the minimal path of the same round: the median of the rounds, and the quarters around it.\n"
}

/// Returns the table of what statistics cost: each ratio with its quartiles.
pub fn statistics(row: &Row) -> String {
    let heads = ["p50", "p90", "p99", "CPU of both", "requests/s", "CPU at that"];
    let figures = ["p50", "p90", "p99", "proxies_cpu", "per_second", "full_cpu"];
    let mut table = Table::new("ratio within a round", &heads);
    let cells = figures.map(|figure| {
        let part = |which: &str| row.get(&format!("{figure}_ratio{which}")).unwrap_or_default();
        format!("{:.3} ({:.3}–{:.3})", part(""), part("_low"), part("_high"))
    });
    table.line(&row.what, cells.to_vec());
    table.text()
}

fn changes_table(rows: &[&Row]) -> String {
    let mut table = Table::new("change (times in ms)", &CHANGES.map(|(head, _)| head));
    for row in rows {
        let cells = CHANGES.iter().map(|(_, figure)| row.get(figure).map_or("–".to_owned(), number));
        table.line(&row.what, cells.collect());
    }
    table.text()
}

fn others_table(rows: &[&Row]) -> String {
    let mut text = "| what | figures |\n| --- | --- |\n".to_owned();
    for row in rows {
        let figures = OTHERS
            .iter()
            .filter_map(|(name, figure, unit)| Some(format!("{name} {}{unit}", number(row.get(figure)?))));
        let _ = writeln!(text, "| {} | {} |", row.what, figures.collect::<Vec<_>>().join("; "));
    }
    text
}

fn targets_table(targets: &[Judged]) -> String {
    let mut table = Table::new("target", &["measured", "baseline", "figure", "is to be", "verdict"]);
    for judged in targets {
        let with = |value: f64, unit: &str| format!("{} {unit}", number(value));
        let none = || "–".to_owned();
        let measured = judged.of.map_or_else(none, |(one, _, unit)| with(one, unit));
        let baseline = judged.of.map_or_else(none, |(_, baseline, unit)| with(baseline, unit));
        let figure = judged.value.map_or_else(none, |value| with(value, judged.unit));
        let cells = vec![measured, baseline, figure, judged.target.clone(), judged.verdict.to_owned()];
        table.line(judged.what, cells);
    }
    table.text()
}

/// Table whose columns are as wide as their content.
struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    fn new(first: &str, heads: &[&str]) -> Self {
        let heads = std::iter::once(first).chain(heads.iter().copied());
        Self { lines: vec![heads.map(str::to_owned).collect()] }
    }

    fn line(&mut self, first: &str, cells: Vec<String>) {
        self.lines.push(std::iter::once(first.to_owned()).chain(cells).collect());
    }

    fn text(&self) -> String {
        let columns = self.lines.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(4)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (number, line) in self.lines.iter().enumerate() {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
            let _ = writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "));
            if number == 0 {
                let rules = widths.iter().enumerate().map(|(column, width)| match column {
                    0 => "-".repeat(*width),
                    _ => format!("{}:", "-".repeat(width - 1)),
                });
                let _ = writeln!(text, "| {} |", rules.collect::<Vec<_>>().join(" | "));
            }
        }
        text
    }
}

/// Formats a figure with as many digits as are meaningful.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}
