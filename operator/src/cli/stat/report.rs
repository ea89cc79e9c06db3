//! Turns the items of a list into the rows of `smidge stat`, and these into text.
//!
//! Pure. Rows are in the order of kubectl: by namespace and name, backends in that of their TrafficSplit.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::cli::traffic::{
    self, Time,
    calls::{Calls, NONE, Rates, percent},
    columns::{Cell, lines},
    objects::Columns,
    page::Item,
    target::Target,
};

/// Figures of objects.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Plural name of their kind.
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
    #[serde(skip)]
    has_backends: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    namespace: String,
    name: String,
    #[serde(flatten)]
    backend: Option<BackendRow>,
    #[serde(flatten)]
    rates: Rates,
    #[serde(flatten)]
    calls: Calls,
}

/// Backend of a TrafficSplit.
#[derive(Debug, Serialize)]
struct BackendRow {
    backend: String,
    weight: u64,
    /// Share of the weights of the split, in percent; `None` if they are zero.
    weight_percent: Option<f64>,
    /// Share of the calls of the split, refused ones included, in percent; `None` without calls.
    share_percent: Option<f64>,
}

/// Sums of a TrafficSplit.
#[derive(Default)]
struct Sums {
    weight: u64,
    calls: u64,
}

impl Report {
    /// Makes the rows of all items of a list.
    pub(super) fn new(target: &Target, mut items: Vec<Item>) -> Self {
        let time = Time::of(&items, target.window);
        let length = items.first().and_then(|item| item.window).unwrap_or(target.window);
        items.sort_by(|a, b| key(a).cmp(&key(b)));
        let mut sums: BTreeMap<(&str, &str), Sums> = BTreeMap::new();
        for item in &items {
            let sum = sums.entry(key(item)).or_default();
            sum.calls = sum.calls.saturating_add(item.calls.total());
            sum.weight = sum.weight.saturating_add(item.backend.as_ref().map_or(0, |it| it.weight));
        }
        let row = |item: &Item| Row {
            namespace: item.object.namespace.clone(),
            name: item.object.name.clone(),
            backend: item.backend.as_ref().zip(sums.get(&key(item))).map(|(backend, sums)| BackendRow {
                backend: backend.name.clone(),
                weight: backend.weight,
                weight_percent: percent(backend.weight, sums.weight),
                share_percent: percent(item.calls.total(), sums.calls),
            }),
            rates: item.calls.rates(item.window.unwrap_or(length)),
            calls: item.calls,
        };
        Self {
            resource: target.resource.plural,
            items: items.iter().map(row).collect(),
            time,
            length,
            empty: format!("no {}", target.described()),
            namespaced: target.resource.namespaced,
            has_backends: target.resource.has_backends(),
        }
    }
}

impl Row {
    /// Returns the cells of its backend.
    fn backend_cells(&self) -> [Cell; 3] {
        let share = |percent: Option<f64>| percent.map(|percent| format!("{percent:.2}%"));
        let [name, weight, taken] = self.backend.as_ref().map_or_else(
            || [NONE; 3].map(str::to_owned),
            |BackendRow { backend, weight, weight_percent, share_percent }| {
                let of = share(*weight_percent).map_or_else(String::new, |share| format!(" ({share})"));
                let taken = share(*share_percent).unwrap_or_else(|| NONE.to_owned());
                [backend.clone(), format!("{weight}{of}"), taken]
            },
        );
        [Cell::text(name), Cell::number(weight), Cell::number(taken)]
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
            let own = self.has_backends.then(|| row.backend_cells()).into_iter().flatten();
            columns.cells((&row.namespace, &row.name), own, &row.calls)
        };
        let rows: Vec<Vec<Cell>> = self.items.iter().map(cells).collect();
        let own: &[&str] = if self.has_backends { &["BACKEND", "WEIGHT", "SHARE"] } else { &[] };
        lines(&columns.headings(own), &rows, is_colourful)
    }
}

fn key(item: &Item) -> (&str, &str) {
    (&item.object.namespace, &item.object.name)
}
