//! Writes TrafficMetrics as a `Table`, as `kubectl get` prints it.
//!
//! Pure. Used by `answer`. The columns depend on what is listed: objects, edges, or backends of TrafficSplits.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::{
    accept::Meta,
    duration,
    object::{ListMetadata, Metadata, Reference, TrafficMetrics},
    query::IncludeObject,
    request::{self, Subresource},
};
use crate::traffic::Figures;

/// A table.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: ListMetadata,
    column_definitions: Vec<Column>,
    rows: Vec<Row<'a>>,
}

/// A column.
#[derive(Debug, Serialize)]
pub(super) struct Column {
    name: &'static str,
    #[serde(rename = "type")]
    type_name: &'static str,
    format: &'static str,
    description: &'static str,
    /// 0: shown; 1: with `-o wide` only.
    priority: u8,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    cells: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<RowObject<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum RowObject<'a> {
    Metadata(Partial),
    Whole(&'a TrafficMetrics),
}

/// The metadata of an object alone.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Partial {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata,
}

impl Partial {
    /// Returns that of an item.
    pub fn of(item: &TrafficMetrics, meta: Meta) -> Self {
        let metadata = item.metadata.clone();
        Self { kind: "PartialObjectMetadata", api_version: meta.api_version(), metadata }
    }
}

/// Returns a column: its name, the type and format, what it shows, and 1 if it is shown with `-o wide` only.
pub(super) const fn column(
    name: &'static str,
    (type_name, format): (&'static str, &'static str),
    description: &'static str,
    priority: u8,
) -> Column {
    Column { name, type_name, format, description, priority }
}

/// Type and format of text.
pub(super) const TEXT: (&str, &str) = ("string", "");

/// Writes the items of an answer to `request`.
pub fn table<'a>(
    request: &request::Figures,
    (meta, include): (Meta, IncludeObject),
    metadata: ListMetadata,
    items: &'a [TrafficMetrics],
) -> Table<'a> {
    let row = |item: &'a TrafficMetrics| Row {
        cells: cells(request, item),
        object: match include {
            IncludeObject::None => None,
            IncludeObject::Metadata => Some(RowObject::Metadata(Partial::of(item, meta))),
            IncludeObject::Object => Some(RowObject::Whole(item)),
        },
    };
    Table {
        kind: "Table",
        api_version: meta.api_version(),
        metadata,
        column_definitions: columns(request),
        rows: items.iter().map(row).collect(),
    }
}

fn columns(request: &request::Figures) -> Vec<Column> {
    let mut all = vec![column("Name", ("string", "name"), "Name of the object that has the traffic", 0)];
    if request.subresource == Subresource::Routes {
        all.push(column(
            "Route",
            TEXT,
            "Match of an HTTPRouteGroup that the calls met; - for those that met none",
            0,
        ));
    }
    if request.subresource == Subresource::Edges {
        all.push(column("Direction", TEXT, "to: the object calls the peer; from: the peer calls it", 0));
        all.push(column("Peer", TEXT, "Other end of the calls", 0));
        all.push(column("Side", TEXT, "Side whose proxy has counted: client or server", 1));
    }
    if request.resource.has_backends() {
        all.push(column("Backend", TEXT, "Service that took the calls", 0));
        all.push(column("Weight", ("integer", "int64"), "Weight of the backend in the TrafficSplit", 0));
    }
    all.extend(figure_columns());
    all
}

/// Returns the columns of figures.
pub(super) fn figure_columns() -> [Column; 7] {
    [
        column("Success rate", TEXT, "Share of the calls that succeeded, of those that were not refused", 0),
        column("RPS", TEXT, "Calls per second, without those that policy refused", 0),
        column("P50", TEXT, "Latency below which 50% of the answers were", 0),
        column("P90", TEXT, "Latency below which 90% of the answers were", 0),
        column("P99", TEXT, "Latency below which 99% of the answers were", 0),
        column("Refused", ("integer", "int64"), "Number of calls that policy refused in the window", 1),
        column("Window", TEXT, "Length of the time that is reported", 1),
    ]
}

fn cells(request: &request::Figures, item: &TrafficMetrics) -> Vec<Value> {
    let mut all = vec![item.metadata.name.clone().into()];
    if request.subresource == Subresource::Routes {
        let route = item.route.as_ref().map(|it| format!("{}/{}", it.name, it.match_name));
        all.push(route.unwrap_or_else(|| "-".to_owned()).into());
    }
    if request.subresource == Subresource::Edges {
        let peer = item.edge.resource.as_ref().map_or_else(|| "unknown".to_owned(), peer);
        all.extend([item.edge.direction.into(), peer.into(), item.edge.side.into()]);
    }
    if request.resource.has_backends() {
        let backend = item.backend.as_ref();
        let name = backend.map_or("unknown", |backend| backend.name.as_str());
        all.extend([name.into(), backend.map_or(0, |backend| backend.weight).into()]);
    }
    all.extend(figure_cells(&item.figures, request.parameters.window));
    all
}

/// Returns the cells of figures.
pub(super) fn figure_cells(figures: &Figures, window: Duration) -> [Value; 7] {
    let Figures { success, failure, refused, .. } = *figures;
    let answered = success.saturating_add(failure);
    #[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^52")]
    let [succeeded, calls] = [success as f64, answered as f64];
    let rate = if answered == 0 { "-".to_owned() } else { format!("{:.2}%", succeeded / calls * 100.0) };
    let per_second = format!("{:.2}", calls / window.as_secs_f64().max(1.0));
    let has_latency = figures.latency.iter().any(|count| *count > 0);
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| {
        let latency = figures.percentile(share);
        if has_latency { format!("{latency:.1}ms").into() } else { "-".into() }
    });
    [rate.into(), per_second.into(), p50, p90, p99, refused.into(), duration::format(window).into()]
}

/// Returns the text of a peer: `Deployment shop/web`, as far as it is known.
fn peer(reference: &Reference) -> String {
    let Reference { kind, namespace, name } = reference;
    let path = match (namespace.as_str(), name.as_str()) {
        ("", name) => name.to_owned(),
        (namespace, "") => format!("{namespace}/"),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    format!("{kind} {path}").trim().to_owned()
}
