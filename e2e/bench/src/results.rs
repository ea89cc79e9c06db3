//! Results of a run: writes each row to disk before the next one is measured, so that a run that ends early keeps its
//! rows.
//!
//! Filled by the scenarios, opened and closed by `main`. `report` formats the tables.

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

/// Results of one run.
#[derive(Debug)]
pub struct Results {
    /// Command, machine and figures of the whole run.
    about: BTreeMap<String, String>,
    rows: Vec<Row>,
    folder: PathBuf,
    name: String,
    /// True if the targets apply to the run.
    is_judged: bool,
}

impl Results {
    /// Starts a run without rows. Its files are named `name`.
    pub fn open(
        about: BTreeMap<String, String>,
        folder: PathBuf,
        name: String,
        is_judged: bool,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { about, rows: Vec::new(), folder, name, is_judged })
    }

    /// Adds a row, and writes the run.
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

    /// Returns the rows that were measured with `proxies` proxies and have no baseline yet.
    pub fn without_baseline(&mut self, proxies: usize) -> Vec<&mut Row> {
        let is_due = |row: &&mut Row| {
            row.get("proxies") == Some(proxies as f64)
                && row.get("message_bytes").is_some()
                && row.get("baseline_max_ms").is_none()
        };
        self.rows.iter_mut().filter(is_due).collect()
    }

    /// Adds a figure of the whole run.
    pub fn note(&mut self, name: &str, value: String) {
        self.about.insert(name.to_owned(), value);
    }

    /// Writes the run as JSON, and as a Markdown page.
    pub fn write(&self) -> anyhow::Result<()> {
        let mut run = json!({"about": self.about, "rows": self.rows});
        if self.is_judged {
            run["targets"] = json!(targets::judge(&self.rows));
        }
        write(&self.folder, &self.name, &run, &page(&self.about, &self.tables()))
    }

    /// Fails if too many times have no valid start.
    pub fn clocked(&self) -> anyhow::Result<()> {
        figures::clocked(&self.rows)
    }

    /// Returns the tables of the run, in Markdown.
    pub fn tables(&self) -> String {
        let targets = if self.is_judged { targets::judge(&self.rows) } else { Vec::new() };
        report::tables(&self.rows, &targets)
    }
}

/// Formats a page: the figures of the whole run, and the tables.
pub fn page(about: &BTreeMap<String, String>, tables: &str) -> String {
    let mut page = String::new();
    for (name, value) in about {
        let _ = writeln!(page, "- {name}: {value}");
    }
    let _ = write!(page, "\n{tables}");
    page
}

/// Writes a run under `name`, as JSON and as a Markdown page.
pub fn write(folder: &Path, name: &str, run: &Value, page: &str) -> anyhow::Result<()> {
    for (ending, bytes) in [("json", serde_json::to_vec_pretty(run)?), ("md", page.as_bytes().to_vec())] {
        let file = folder.join(format!("{name}.{ending}"));
        fs::write(&file, bytes).with_context(|| format!("failed to write {}", file.display()))?;
    }
    Ok(())
}
