//! Turns edges into the rows of `smidge edges`, one for calls that both sides have counted, and these into text.
//!
//! Pure. Never adds figures of two edges: the sides count the same calls. Rows are in the order of the callers.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;
use smidge_traffic_metrics::{
    api::resource::{self, Resource},
    traffic::{Direction, Kind, Side},
};

use crate::cli::{
    terminal::Colour,
    traffic::{
        self, Time,
        calls::{Calls, Rates},
        columns::{Cell, lines},
        page::{Item, Object},
        target::Target,
    },
};

/// Caller of which no certificate was verified.
const NO_IDENTITY: &str = "(no identity)";
/// Destination that is no Service and no workload of the mesh.
const UNKNOWN: &str = "(unknown)";

/// Edges of objects.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Plural name of their kind.
    resource: &'static str,
    #[serde(flatten)]
    time: Time,
    items: Vec<Row>,
    notes: Vec<String>,
    #[serde(skip)]
    length: Duration,
    #[serde(skip)]
    empty: String,
}

#[derive(Debug, Serialize)]
struct Row {
    /// The caller; `null`: it has no identity.
    from: Option<Object>,
    /// Destination; `null`: not known.
    to: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    /// Side that has counted.
    side: &'static str,
    #[serde(flatten)]
    rates: Rates,
    #[serde(flatten)]
    calls: Calls,
}

/// Calls of the same caller, destination and backend.
type Key = (bool, Option<Object>, Option<Object>, Option<String>);

impl Report {
    /// Makes the rows of all edges. `left_out` is the number of those that the server has left out.
    pub(super) fn new(target: &Target, items: Vec<Item>, left_out: u64) -> Self {
        let time = Time::of(&items, target.window);
        let length = items.first().and_then(|item| item.window).unwrap_or(target.window);
        let mut edges: BTreeMap<Key, Vec<(Side, Calls)>> = BTreeMap::new();
        for Item { object, edge, backend, calls, .. } in items {
            let (from, to) = match edge.direction {
                Direction::From => (edge.peer, Some(object)),
                Direction::To => (Some(object), edge.peer),
            };
            // Callers without an identity come last.
            let key = (from.is_none(), from, to, backend.map(|backend| backend.name));
            edges.entry(key).or_default().push((edge.side, calls));
        }
        let mut rows = Vec::new();
        for ((_, from, to, backend), sides) in edges {
            let is_served = sides.iter().any(|(side, _)| *side == Side::Server);
            // Edges of one side are of different accounts of the workload, and no calls are in two of them.
            let shown = sides.into_iter().filter(|(side, _)| !is_served || *side == Side::Server);
            rows.extend(shown.map(|(side, calls)| Row {
                from: from.clone(),
                to: to.clone(),
                backend: backend.clone(),
                side: resource::side(side),
                rates: calls.rates(length),
                calls,
            }));
        }
        Self {
            resource: target.resource.plural,
            time,
            notes: notes(target.resource, &rows, left_out),
            items: rows,
            length,
            empty: format!("no calls to or from {}", target.described()),
        }
    }
}

impl traffic::Report for Report {
    fn time(&self) -> &Time {
        &self.time
    }

    fn table(&self, is_colourful: bool) -> String {
        if self.items.is_empty() {
            return format!("{}\n", self.empty);
        }
        let has_backends = self.items.iter().any(|row| row.backend.is_some());
        let mut headings = vec!["FROM", "TO"];
        headings.extend(has_backends.then_some("BACKEND"));
        headings.extend(["SIDE", "SUCCESS", "RPS", "P99", "REFUSED"]);
        let row = |row: &Row| {
            let end = |object: &Option<Object>, unknown: &str| {
                object.as_ref().map_or_else(|| unknown.to_owned(), Object::to_string)
            };
            let is_unknown = row.from.is_none();
            let mut cells =
                vec![Cell::text(end(&row.from, NO_IDENTITY)).coloured_if(is_unknown, Colour::Yellow)];
            cells.push(Cell::text(end(&row.to, UNKNOWN)));
            cells.extend(has_backends.then(|| Cell::text(row.backend.as_deref().unwrap_or("-"))));
            cells.push(Cell::text(row.side));
            cells.extend(row.calls.rate_cells(self.length));
            let [_, _, p99] = row.calls.latency_cells();
            cells.extend([p99, row.calls.refused_cell()]);
            cells
        };
        let rows: Vec<Vec<Cell>> = self.items.iter().map(row).collect();
        let mut text = lines(&headings, &rows, is_colourful);
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}

fn notes(resource: &Resource, rows: &[Row], left_out: u64) -> Vec<String> {
    let mut notes = Vec::new();
    let has = |side: Side| rows.iter().any(|row| row.side == resource::side(side));
    // Peers are workloads, so that the two sides of a call between such objects are not of the same names.
    let is_of_workloads =
        matches!(resource.kind, Kind::Namespace | Kind::Node | Kind::Pod | Kind::ReplicaSet | Kind::Job);
    if is_of_workloads && has(Side::Server) && has(Side::Client) {
        let plural = resource.plural;
        notes.push(format!(
            "peers are workloads: a call between {plural} that are shown is in two lines, as each side has \
             counted it; do not add them"
        ));
    }
    if left_out > 0 {
        notes.push(format!("{left_out} edges with fewer calls are left out"));
    }
    notes
}
