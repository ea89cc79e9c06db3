//! The rows of a run as they come: each is on disk before the next one is measured, so that what ends early has not run
//! for nothing.
//!
//! Filled by `scenario`, opened and closed by `main`. What it looks like for people is `report`'s matter.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::json;

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
}

impl Ledger {
    /// A run without rows. Its files are to be called `name`.
    pub fn open(about: BTreeMap<String, String>, folder: PathBuf, name: String) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { about, rows: Vec::new(), folder, name })
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
        let file = self.folder.join(format!("{}.json", self.name));
        let run = json!({"about": self.about, "rows": self.rows, "targets": targets::judge(&self.rows)});
        fs::write(&file, serde_json::to_vec_pretty(&run)?)
            .with_context(|| format!("failed to write {}", file.display()))?;
        let mut page = String::new();
        for (name, value) in &self.about {
            let _ = writeln!(page, "- {name}: {value}");
        }
        let _ = write!(page, "\n{}", self.tables());
        let file = self.folder.join(format!("{}.md", self.name));
        fs::write(&file, page).with_context(|| format!("failed to write {}", file.display()))
    }

    /// An error if the times in it are none.
    pub fn clocked(&self) -> anyhow::Result<()> {
        figures::clocked(&self.rows)
    }

    /// The run for people.
    pub fn tables(&self) -> String {
        report::tables(&self.rows)
    }
}
