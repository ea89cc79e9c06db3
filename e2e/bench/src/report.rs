//! Prints a run: for people as tables, for machines as JSON, for the documentation as Markdown.
//!
//! Called by `main` at the end. Leaves nothing out and rounds for people only.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;

use crate::figures::{Row, Run};

/// The columns of changes, with the figure of each.
const CHANGES: [(&str, &str); 11] = [
    ("p50", "last_p50_ms"),
    ("p99", "last_p99_ms"),
    ("max", "last_max_ms"),
    ("floor p50", "floor_p50_ms"),
    ("floor p99", "floor_p99_ms"),
    ("× p50", "ratio_p50"),
    ("× p99", "ratio_p99"),
    ("CPU", "cpu_ms"),
    ("floor CPU", "floor_cpu_ms"),
    ("bytes", "bytes"),
    ("resources", "resources"),
];

/// What the other rows show, if they have it: words, the figure, its unit. The rest is in the JSON only.
const OTHERS: [(&str, &str, &str); 23] = [
    ("first proxy configured after the lists", "lists_to_first_proxy_s", " s"),
    ("after the start", "start_to_first_proxy_s", " s"),
    ("last configured", "configured_max_ms", " ms"),
    ("median", "configured_p50_ms", " ms"),
    ("floor of the last", "floor_max_ms", " ms"),
    ("answer p50", "answer_p50_ms", " ms"),
    ("p99", "answer_p99_ms", " ms"),
    ("CPU", "cpu_ms", " ms"),
    ("floor CPU", "floor_cpu_ms", " ms"),
    ("CPU of the client", "client_cpu_ms", " ms"),
    ("resident", "resident_mib", " MiB"),
    ("most ever", "peak_mib", " MiB"),
    ("of it for each proxy", "kib_each", " KiB"),
    ("resources for each", "body_bytes_each", " bytes"),
    ("on the wire for each", "bytes_each", " bytes"),
    ("tries beyond the first", "retries", ""),
    ("memory before", "before_mb", " MB"),
    ("and then", "then_mb", " MB"),
    ("changes", "made", ""),
    ("in", "took_s", " s"),
    ("snapshots", "publishes", ""),
    ("streams woken", "streams_woken", ""),
    ("behind them", "behind_ms", " ms"),
];

/// The run as Markdown, which reads well on a terminal, too.
pub fn tables(run: &Run) -> String {
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    let (changes, others): (Vec<&Row>, Vec<&Row>) =
        run.rows.iter().partition(|row| row.get("last_p50_ms").is_some());
    let width = changes.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
    let first = |text: &str| format!("{text:width$}");
    let heads = CHANGES.iter().map(|(head, _)| format!("{head:>9}"));
    line(&[vec![first("change (times in ms)")], heads.collect(), vec!["target".to_owned()]].concat());
    let rules = CHANGES.iter().map(|_| "--------:".to_owned());
    line(&[vec!["-".repeat(width)], rules.collect(), vec!["---".to_owned()]].concat());
    for row in changes {
        let cells = CHANGES.iter().map(|(_, name)| row.get(name).map_or(format!("{:>9}", "–"), number));
        line(&[vec![first(&row.what)], cells.collect(), vec![row.target.clone()]].concat());
    }
    text.push('\n');
    let mut line = |cells: [&str; 3]| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    line(["what", "figures", "target"]);
    line(["---", "---", "---"]);
    for row in others {
        let figures = OTHERS.iter().filter_map(|(name, figure, unit)| {
            Some(format!("{name} {}{unit}", number(row.get(figure)?).trim()))
        });
        line([&row.what, &figures.collect::<Vec<_>>().join("; "), &row.target]);
    }
    text
}

/// A figure with as many digits as mean anything.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:9.digits$}")
}

/// Writes the run for machines, and as a page.
pub fn write(run: &Run, folder: &Path, name: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, serde_json::to_vec_pretty(run)?)
        .with_context(|| format!("failed to write {}", file.display()))?;
    let mut page = String::new();
    for (name, value) in &run.about {
        let _ = writeln!(page, "- {name}: {value}");
    }
    std::fs::write(folder.join(format!("{name}.md")), format!("{page}\n{}", tables(run)))?;
    eprintln!("    written: {}", file.display());
    Ok(())
}
