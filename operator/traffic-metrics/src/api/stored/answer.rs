//! Writes TrafficMetrics that can be written, with the figures of what they measure.
//!
//! Pure. Used by the server, which reads the MetricsPolicies and asks the source what `questions` has. Answers to writes
//! have no figures.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{call::Stored, policy::Shown};
use crate::{
    api::{
        accept::{Form, Meta},
        assemble, duration,
        object::{self, Edge, ListMetadata, Metric, Reference},
        query::IncludeObject,
        resource::{self, Resource, STORED},
        status::Status,
        table::{self, TEXT, column},
        timestamp::Timestamp,
    },
    traffic::{Figures, Kind, ObjectName, Question, Side, Traffic},
};

/// Traffic of the objects of each kind that was asked about.
pub type ByKind = BTreeMap<Kind, Traffic>;

/// MetricsPolicies that were read, with the metadata of their list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The policies.
    pub policies: Vec<Shown>,
    /// Version of the list.
    pub resource_version: String,
    /// Token of the next part; empty: this is the last one.
    pub continue_token: String,
    /// Number of policies that follow, if it is known.
    pub remaining: Option<u64>,
}

/// A TrafficMetrics that can be written, with keys in the order of the SDK.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<String>,
    resource: Reference,
    edge: Edge,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<Metric>,
    #[serde(skip)]
    figures: Figures,
}

/// Returns the questions about what policies measure: one for each kind.
pub fn questions(request: &Stored, policies: &[Shown]) -> Vec<Question> {
    // Several policies can measure one object.
    let mut by_kind = BTreeMap::<Kind, BTreeSet<ObjectName>>::new();
    for policy in policies {
        let Some(resource) = policy.resource() else { continue };
        by_kind.entry(resource.kind).or_default().insert(measured(resource, policy));
    }
    let question = |(kind, names): (Kind, BTreeSet<ObjectName>)| {
        let one = names.first().filter(|_| names.len() == 1).cloned();
        let namespace = one.as_ref().map(|one| one.namespace.clone()).or_else(|| request.namespace.clone());
        Question {
            kind,
            namespace: namespace.filter(|it| kind != Kind::Namespace && !it.is_empty()),
            name: one.map(|one| one.name),
            window: request.parameters.window,
        }
    };
    by_kind.into_iter().map(question).collect()
}

/// Returns the name of what a policy measures, as traffic has it.
fn measured(resource: &Resource, policy: &Shown) -> ObjectName {
    let namespace = if resource.namespaced { policy.text("namespace").to_owned() } else { String::new() };
    ObjectName { namespace, name: policy.name.clone() }
}

/// Writes an object without figures, as the answer to a write.
pub fn written(request: &Stored, policy: &Shown) -> Result<Vec<u8>, Status> {
    text(&item(request, policy, None))
}

/// Writes the answer to a delete of an object that is gone.
pub fn deleted(name: &str, uid: Option<&Value>) -> Result<Vec<u8>, Status> {
    let mut details = json!({"name": name, "group": crate::api::GROUP, "kind": STORED});
    if let (Some(details), Some(uid)) = (details.as_object_mut(), uid) {
        details.insert("uid".to_owned(), uid.clone());
    }
    text(
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
    )
}

/// Writes the answer to a read.
pub fn write(
    request: &Stored,
    form: Form,
    (part, traffic): (&Part, &ByKind),
    at: Timestamp,
) -> Result<Vec<u8>, Status> {
    let items: Vec<Item<'_>> =
        part.policies.iter().map(|policy| item(request, policy, Some((traffic, at)))).collect();
    let metadata = ListMetadata {
        self_link: String::new(),
        resource_version: part.resource_version.clone(),
        continue_token: part.continue_token.clone(),
        remaining_item_count: part.remaining,
    };
    match (form, items.first()) {
        (Form::Table(meta), _) => text(&as_table(request, meta, &metadata, &items)),
        (Form::Object, Some(item)) if request.name.is_some() => text(item),
        (Form::Metadata(meta), Some(item)) if request.name.is_some() => text(&partial(item, meta)),
        (Form::Object, _) => text(&json!({
            "kind": "TrafficMetricsList", "apiVersion": request.version.api_version(), "metadata": metadata,
            "items": items,
        })),
        (Form::Metadata(meta), _) => text(&json!({
            "kind": "PartialObjectMetadataList", "apiVersion": meta.api_version(), "metadata": metadata,
            "items": items.iter().map(|item| partial(item, meta)).collect::<Vec<_>>(),
        })),
    }
}

fn item<'a>(request: &Stored, policy: &'a Shown, figures: Option<(&ByKind, Timestamp)>) -> Item<'a> {
    let resource = policy.resource();
    let side = resource.map_or(Side::Server, |resource| resource.side);
    let of = |resource: &Resource, traffic: &ByKind| {
        let edges = traffic.get(&resource.kind)?.get(&measured(resource, policy))?;
        Some(assemble::sum(resource, edges, |_| true))
    };
    let sum = figures.zip(resource).and_then(|((traffic, _), resource)| of(resource, traffic));
    let sum = sum.unwrap_or_default();
    let namespace = if resource.is_none_or(|it| it.namespaced) { policy.text("namespace") } else { "" };
    Item {
        kind: "TrafficMetrics",
        api_version: request.version.api_version(),
        metadata: &policy.metadata,
        timestamp: figures.map(|(_, at)| at.rfc3339()),
        window: figures.map(|_| duration::format(request.parameters.window)),
        resource: Reference {
            kind: policy.kind.clone(),
            namespace: namespace.to_owned(),
            name: policy.name.clone(),
        },
        edge: Edge { direction: "from", side: resource::side(side), resource: None },
        metrics: figures.map(|_| object::metrics(&sum)).unwrap_or_default(),
        figures: sum,
    }
}

fn partial(item: &Item<'_>, meta: Meta) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": meta.api_version(), "metadata": item.metadata})
}

fn as_table(request: &Stored, meta: Meta, metadata: &ListMetadata, items: &[Item<'_>]) -> Value {
    let mut columns = vec![
        column("Name", ("string", "name"), "Name of the TrafficMetrics", 0),
        column("Resource", TEXT, "The object that is measured", 0),
    ];
    columns.extend(table::figure_columns());
    let row = |item: &Item<'_>| {
        let name = item.metadata.get("name").cloned().unwrap_or_default();
        let mut cells = vec![name, format!("{}/{}", item.resource.kind, item.resource.name).into()];
        cells.extend(table::figure_cells(&item.figures, request.parameters.window));
        match request.parameters.include_object {
            IncludeObject::None => json!({"cells": cells}),
            IncludeObject::Metadata => json!({"cells": cells, "object": partial(item, meta)}),
            IncludeObject::Object => json!({"cells": cells, "object": item}),
        }
    };
    json!({
        "kind": "Table", "apiVersion": meta.api_version(), "metadata": metadata, "columnDefinitions": columns,
        "rows": items.iter().map(row).collect::<Vec<_>>(),
    })
}

fn text(value: &impl Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(value).map_err(|_| Status::internal("the answer could not be written"))
}
