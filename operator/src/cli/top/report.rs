//! Turns the routes of objects into the rows of `smidge top`, and these into text.
//!
//! Pure. Rows with most calls come first, refused ones included.

use std::{cmp::Reverse, time::Duration};

use serde::Serialize;

use crate::cli::traffic::{
    self, Time,
    calls::{Calls, NONE, Rates},
    columns::{Cell, lines},
    objects::Columns,
    page::Item,
    target::Target,
};

/// Note below a table in which no call has a route.
const NOT_MEASURED: &str =
    "note: no route is measured (hint: a MetricsPolicy has the calls of an object measured by route)";

/// Figures of routes.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Plural name of the kind of the objects.
    resource: &'static str,
    #[serde(flatten)]
    time: Time,
    items: Vec<Row>,
    #[serde(skip)]
    length: Duration,
    #[serde(skip)]
    empty: String,
    #[serde(skip)]
    namespaced: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    namespace: String,
    name: String,
    /// The match, as `group/match`; `null` for calls that met none.
    route: Option<String>,
    #[serde(flatten)]
    rates: Rates,
    #[serde(flatten)]
    calls: Calls,
}

impl Report {
    /// Makes the rows of all items.
    pub(super) fn new(target: &Target, items: Vec<Item>) -> Self {
        let time = Time::of(&items, target.window);
        let length = items.first().and_then(|item| item.window).unwrap_or(target.window);
        let row = |Item { object, route, calls, window, .. }: Item| Row {
            namespace: object.namespace,
            name: object.name,
            route,
            rates: calls.rates(window.unwrap_or(length)),
            calls,
        };
        let mut items: Vec<Row> = items.into_iter().map(row).collect();
        items.sort_by(|a, b| key(a).cmp(&key(b)));
        Self {
            resource: target.resource.plural,
            items,
            time,
            length,
            empty: format!("no calls of {}", target.described()),
            namespaced: target.resource.namespaced,
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
        let columns = Columns::new(self.namespaced, self.length, self.items.iter().map(|row| &row.calls));
        let cells = |row: &Row| {
            let route = Cell::text(row.route.as_deref().unwrap_or(NONE));
            columns.cells((&row.namespace, &row.name), [route], &row.calls)
        };
        let rows: Vec<Vec<Cell>> = self.items.iter().map(cells).collect();
        let is_measured = self.items.iter().any(|row| row.route.is_some());
        let note = if is_measured { String::new() } else { format!("{NOT_MEASURED}\n") };
        format!("{}{note}", lines(&columns.headings(&["ROUTE"]), &rows, is_colourful))
    }
}

fn key(row: &Row) -> (Reverse<u64>, &str, &str, Option<&str>) {
    (Reverse(row.calls.total()), &row.namespace, &row.name, row.route.as_deref())
}
