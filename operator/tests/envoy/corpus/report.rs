//! The report on the corpus, `docs/corpus.md`: text written by hand, and counts.
//!
//! Everything below the mark is counted, except the remarks on each file, which are carried over.

use std::{collections::BTreeMap, fmt::Write as _};

/// The mark: everything after it is counted.
const MARK: &str =
    "<!-- Counted by operator/tests/envoy/corpus.rs: only the last column is written by hand. -->\n";

/// Results of `smidge check`, of admission and of `smidge render` for one file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Said {
    /// Exit status of `check`.
    pub status: u8,
    /// Number of findings of each reason; `unreadable` counts as a reason.
    pub reasons: BTreeMap<String, usize>,
    /// Number of SMI objects that admission reviewed.
    pub reviewed: usize,
    /// Number of them that it refuses.
    pub refused: usize,
    /// Number of proxies that `render` made a configuration for.
    pub rendered: usize,
}

impl Said {
    fn cell(&self) -> String {
        let mut parts: Vec<String> =
            self.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        if self.refused > 0 {
            parts.push(format!("admission refuses {}", self.refused));
        }
        if parts.is_empty() { "–".to_owned() } else { parts.join(", ") }
    }
}

/// Returns the text written by hand in a report: everything above the mark, and the remark on each file.
pub fn by_hand(report: &str) -> (String, BTreeMap<String, String>) {
    let (head, counted) = report.split_once(MARK).unwrap_or((report, ""));
    let mut words = BTreeMap::new();
    let mut folder = "";
    for line in counted.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            folder = name;
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let [file, _, _, judged] = cells.as_slice() {
            words.insert(format!("{folder}/{file}"), (*judged).to_owned());
        }
    }
    (head.to_owned(), words)
}

/// Returns the report, with the text written by hand.
pub fn report(head: &str, words: &BTreeMap<String, String>, said: &BTreeMap<String, Said>) -> String {
    let mut text = format!("{head}{MARK}\n");
    totals(said, &mut text);
    let mut last = "";
    for (name, said) in said {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        if folder != last {
            let _ = write!(
                text,
                "\n### {folder}\n\n| file | exit | findings | judged |\n| --- | --- | --- | --- |\n"
            );
            last = folder;
        }
        let judged = words.get(name).map_or("not judged yet", String::as_str);
        let _ = writeln!(text, "| {file} | {} | {} | {judged} |", said.status, said.cell());
    }
    text
}

fn totals(all: &BTreeMap<String, Said>, text: &mut String) {
    let count = |is_it: &dyn Fn(&Said) -> bool| all.values().filter(|said| is_it(said)).count();
    let sum = |of: fn(&Said) -> usize| all.values().map(of).sum::<usize>();
    let _ = write!(
        text,
        "## Totals\n\n| verdict | files |\n| --- | --- |\n\
         | 0, no findings | {} |\n| 0, warnings only | {} |\n| 1, errors | {} |\n| 2, something cannot be read | {} |\n\
         | all | {} |\n\n",
        count(&|said| said.status == 0 && said.reasons.is_empty()),
        count(&|said| said.status == 0 && !said.reasons.is_empty()),
        count(&|said| said.status == 1),
        count(&|said| said.status == 2),
        all.len()
    );
    let _ = write!(
        text,
        "`smidge render` made {} configurations, for the workloads of {} files; the other files hold none. Admission was asked \
         about {} objects and refuses {}, in {} files.\n\n",
        sum(|said| said.rendered),
        count(&|said| said.rendered > 0),
        sum(|said| said.reviewed),
        sum(|said| said.refused),
        count(&|said| said.refused > 0),
    );
    let mut reasons: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (reason, count) in all.values().flat_map(|said| &said.reasons) {
        let total = reasons.entry(reason).or_default();
        *total = (total.0 + count, total.1 + 1);
    }
    text.push_str("| reason | how often | files |\n| --- | --- | --- |\n");
    for (reason, (count, files)) in reasons {
        let _ = writeln!(text, "| {reason} | {count} | {files} |");
    }
    text.push_str("\n## File by file\n");
}
