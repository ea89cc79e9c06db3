//! Writes the answer to a request for figures, in the form that the client accepts.
//!
//! Pure. The server passes the objects and their traffic. One object is answered as itself, except for a TrafficSplit,
//! which is a list of its backends.

use serde::Serialize;

use super::{
    accept::{Form, Meta},
    assemble::{self, Subject},
    object::{ListMetadata, TrafficMetrics, TrafficMetricsList},
    request::{Figures, Subresource},
    status::Status,
    table::{self, Partial},
    timestamp::Timestamp,
};
use crate::traffic::{ObjectName, Traffic};

/// Objects that were read, with the token of the next part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The objects.
    pub subjects: Vec<Subject>,
    /// Token of the next part; empty: this is the last one.
    pub continue_token: String,
    /// Number of objects that follow, if it is known.
    pub remaining: Option<u64>,
}

/// Metadata of objects, as a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartialList {
    kind: &'static str,
    api_version: &'static str,
    metadata: ListMetadata,
    items: Vec<Partial>,
}

/// Returns true if the answer is a list.
pub fn is_list(request: &Figures) -> bool {
    request.name.is_none() || request.subresource != Subresource::None || request.resource.has_backends()
}

/// Writes the answer. For one object, `part` has just that.
pub fn write(
    request: &Figures,
    form: Form,
    (part, traffic): (&Part, &Traffic),
    at: Timestamp,
) -> Result<Vec<u8>, Status> {
    let (items, left_out) = match (&request.name, part.subjects.first(), request.subresource) {
        (Some(name), None, _) => return Err(Status::no_such_object(request.resource, name)),
        (_, Some(subject), Subresource::Edges) => assemble::edges(request, subject, traffic, at),
        (_, Some(subject), Subresource::Routes) => (assemble::routes(request, subject, traffic, at), 0),
        _ => (assemble::wholes(request, &part.subjects, traffic, at), 0),
    };
    let left_out = Some(left_out as u64).filter(|number| *number > 0);
    let metadata = ListMetadata {
        self_link: request.path(),
        resource_version: at.resource_version(),
        continue_token: part.continue_token.clone(),
        remaining_item_count: part.remaining.or(left_out),
    };
    if let (false, Some(item), Form::Object | Form::Metadata(_)) = (is_list(request), items.first(), form) {
        return match form {
            Form::Metadata(meta) => json(&Partial::of(item, meta)),
            _ => json(item),
        };
    }
    match form {
        Form::Object => json(&TrafficMetricsList {
            kind: "TrafficMetricsList",
            api_version: request.version.api_version(),
            metadata,
            resource: assemble::reference(request.resource, &asked(request)),
            items,
        }),
        Form::Table(meta) => {
            json(&table::table(request, (meta, request.parameters.include_object), metadata, &items))
        }
        Form::Metadata(meta) => json(&PartialList {
            kind: "PartialObjectMetadataList",
            api_version: meta.api_version(),
            metadata,
            items: items.iter().map(|item| Partial::of(item, meta)).collect(),
        }),
    }
}

/// Writes one item for an event of a watch.
pub fn write_item(request: &Figures, form: Form, item: &TrafficMetrics) -> Result<Vec<u8>, Status> {
    match form {
        Form::Object => json(item),
        Form::Metadata(meta) => json(&Partial::of(item, meta)),
        Form::Table(meta) => {
            let metadata = ListMetadata {
                resource_version: item.metadata.resource_version.clone(),
                ..ListMetadata::default()
            };
            let include: (Meta, _) = (meta, request.parameters.include_object);
            json(&table::table(request, include, metadata, std::slice::from_ref(item)))
        }
    }
}

/// Returns the name of what was asked about.
fn asked(request: &Figures) -> ObjectName {
    ObjectName {
        namespace: request.namespace.clone().unwrap_or_default(),
        name: request.name.clone().unwrap_or_default(),
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(value).map_err(|_| Status::internal("the answer could not be written"))
}
