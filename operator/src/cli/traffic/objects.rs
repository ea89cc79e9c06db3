//! Columns of a table about objects: their namespace and name, what a command has of its own, and the figures of their calls.
//!
//! Pure. Used by `stat` and `top`; `columns` lays the table out.

use std::time::Duration;

use super::{calls::Calls, columns::Cell};

/// Columns that the rows of a table share.
#[derive(Debug)]
pub struct Columns {
    namespaced: bool,
    length: Duration,
    has_refused: bool,
}

impl Columns {
    /// Returns the columns of objects whose calls are these, in a window of this length.
    pub fn new<'a>(namespaced: bool, length: Duration, mut calls: impl Iterator<Item = &'a Calls>) -> Self {
        Self { namespaced, length, has_refused: calls.any(|calls| calls.refused > 0) }
    }

    /// Returns the headings, with `own` behind the name.
    pub fn headings(&self, own: &[&'static str]) -> Vec<&'static str> {
        let mut headings = Vec::new();
        headings.extend(self.namespaced.then_some("NAMESPACE"));
        headings.push("NAME");
        headings.extend(own);
        headings.extend(["SUCCESS", "RPS", "P50", "P90", "P99"]);
        headings.extend(self.has_refused.then_some("REFUSED"));
        headings
    }

    /// Returns the cells of an object, with `own` behind the name.
    pub fn cells(
        &self,
        (namespace, name): (&str, &str),
        own: impl IntoIterator<Item = Cell>,
        calls: &Calls,
    ) -> Vec<Cell> {
        let mut row = Vec::new();
        row.extend(self.namespaced.then(|| Cell::text(namespace)));
        row.push(Cell::text(name));
        row.extend(own);
        row.extend(calls.rate_cells(self.length));
        row.extend(calls.latency_cells());
        row.extend(self.has_refused.then(|| calls.refused_cell()));
        row
    }
}
