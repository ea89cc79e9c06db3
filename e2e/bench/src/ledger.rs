//! The rows of a run as they come: each is on disk before the next one is measured, so that what ends early has not run
//! for nothing.
//!
//! Filled by the scenarios, opened and closed by `main`. What it looks like for people is `report`'s matter.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    figures::{self, Row},
    report, targets,
};

/// One run.
#[derive(Debug)]
pub struct Ledger {
    /// What is run, on what.
    about: BTreeMap<String, String>,
    rows: Vec<Row>,
    folder: PathBuf,
    name: String,
    /// Whether the targets are about it.
    is_judged: bool,
}

impl Ledger {
    /// A run without rows. Its files are to be called `name`.
    pub fn open(
        about: BTreeMap<String, String>,
        folder: PathBuf,
        name: String,
        is_judged: bool,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { about, rows: Vec::new(), folder, name, is_judged })
    }

    /// Writes down what was measured.
    pub fn add(&mut self, row: Row) -> anyhow::Result<()> {
        self.rows.push(row);
        self.write()
    }

    /// Adds the rows of another program's results.
    pub fn add_all(&mut self, file: &Path) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Results {
            rows: Vec<Row>,
        }
        let text = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
        self.rows.extend(serde_json::from_slice::<Results>(&text)?.rows);
        self.write()
    }

    pub fn get(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// Those rows that were measured with so many proxies and have no floor yet.
    pub fn without_floor(&mut self, proxies: usize) -> Vec<&mut Row> {
        let is_due = |row: &&mut Row| {
            row.get("proxies") == Some(proxies as f64)
                && row.get("message_bytes").is_some()
                && row.get("floor_max_ms").is_none()
        };
        self.rows.iter_mut().filter(is_due).collect()
    }

    /// Adds a figure of the whole run.
    pub fn note(&mut self, name: &str, value: String) {
        self.about.insert(name.to_owned(), value);
    }

    /// Writes the run for machines, and as a page.
    pub fn write(&self) -> anyhow::Result<()> {
        let mut run = json!({"about": self.about, "rows": self.rows});
        if self.is_judged {
            run["targets"] = json!(targets::judge(&self.rows));
        }
        write(&self.folder, &self.name, &run, &page(&self.about, &self.tables()))
    }

    /// An error if the times in it are none.
    pub fn clocked(&self) -> anyhow::Result<()> {
        figures::clocked(&self.rows)
    }

    /// The run for people.
    pub fn tables(&self) -> String {
        let targets = if self.is_judged { targets::judge(&self.rows) } else { Vec::new() };
        report::tables(&self.rows, &targets)
    }
}

/// What a run says, with what it was.
pub fn page(about: &BTreeMap<String, String>, tables: &str) -> String {
    let mut page = String::new();
    for (name, value) in about {
        let _ = writeln!(page, "- {name}: {value}");
    }
    let _ = write!(page, "\n{tables}");
    page
}

/// Writes a run of that name for machines, and as a page.
pub fn write(folder: &Path, name: &str, run: &Value, page: &str) -> anyhow::Result<()> {
    for (ending, bytes) in [("json", serde_json::to_vec_pretty(run)?), ("md", page.as_bytes().to_vec())] {
        let file = folder.join(format!("{name}.{ending}"));
        fs::write(&file, bytes).with_context(|| format!("failed to write {}", file.display()))?;
    }
    Ok(())
}
