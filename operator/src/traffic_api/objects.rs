//! Reads the objects that have traffic from the API server: their metadata, and the content of TrafficSplits.
//!
//! Used by `traffic_api`. Reads a part of a list at a time, of a bounded number of objects, each time anew: an object
//! that exists has figures, if only of zero. Does not keep objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use serde_json::Value;
use smidge_traffic_metrics::{
    api::{
        answer::Part,
        assemble::{Split, Subject},
        request::Figures,
        status::Status,
    },
    traffic::ObjectName,
};
use tracing::warn;

/// Maximum number of objects in an answer. There is a token for the next ones.
pub(super) const MAX_OBJECTS: u32 = 500;

/// Reader of objects.
pub(super) struct Objects {
    client: Client,
}

impl Objects {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads the objects that are asked about.
    pub(super) async fn read(&self, figures: &Figures) -> Result<Part, Status> {
        let resource = figures.resource;
        let kind = GroupVersionKind::gvk(resource.group, resource.version, resource.kind_name);
        let kind = ApiResource::from_gvk_with_plural(&kind, resource.plural);
        let api: Api<DynamicObject> = match &figures.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let is_split = resource.has_backends();
        let read = match &figures.name {
            Some(name) if is_split => one(api.get_opt(name).await.map(|found| found.map(|it| split(&it)))),
            Some(name) => {
                one(api.get_metadata_opt(name).await.map(|found| found.map(|it| subject(it.metadata))))
            }
            None if is_split => {
                let list = api.list(&parameters(figures)).await;
                list.map(|list| part(list.metadata, list.items.iter().map(split).collect()))
            }
            None => {
                let list = api.list_metadata(&parameters(figures)).await;
                list.map(|list| {
                    let subjects = list.items.into_iter().map(|item| subject(item.metadata)).collect();
                    part(list.metadata, subjects)
                })
            }
        };
        read.map_err(|error| failed(&error))
    }
}

fn one(found: kube::Result<Option<Subject>>) -> kube::Result<Part> {
    found.map(|found| Part { subjects: found.into_iter().collect(), ..Part::default() })
}

fn part(list: ListMeta, subjects: Vec<Subject>) -> Part {
    Part {
        subjects,
        continue_token: list.continue_.unwrap_or_default(),
        remaining: list.remaining_item_count.and_then(|count| u64::try_from(count).ok()),
    }
}

fn parameters(figures: &Figures) -> ListParams {
    let given = &figures.parameters;
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    ListParams {
        label_selector: text(&given.label_selector),
        field_selector: given.name.as_ref().map(|name| format!("metadata.name={name}")),
        limit: Some(given.limit.unwrap_or(MAX_OBJECTS).min(MAX_OBJECTS)),
        continue_token: text(&given.continue_token),
        ..ListParams::default()
    }
}

/// Returns the error for the client: about its own selector and token, the API server's; otherwise that there was one.
fn failed(error: &kube::Error) -> Status {
    match error {
        kube::Error::Api(status) if status.code == 400 => Status::bad_request(status.message.clone()),
        kube::Error::Api(status) if status.code == 410 => Status::expired(status.message.clone()),
        _ => {
            warn!(%error, "failed to read objects for traffic metrics");
            Status::unavailable("the objects could not be read from the API server; try again")
        }
    }
}

fn subject(metadata: ObjectMeta) -> Subject {
    let ObjectMeta { name, namespace, labels, creation_timestamp, .. } = metadata;
    Subject {
        name: ObjectName { namespace: namespace.unwrap_or_default(), name: name.unwrap_or_default() },
        labels: labels.unwrap_or_default(),
        created: creation_timestamp.map(|time| time.0.to_string()),
        split: None,
    }
}

/// Reads a TrafficSplit as far as it can be read: one that lowering refuses still has figures.
fn split(object: &DynamicObject) -> Subject {
    let spec = object.data.get("spec");
    let field = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(short);
    let backends = spec.and_then(|spec| spec.get("backends")).and_then(Value::as_array);
    let backend = |value: &Value| {
        let weight = value.get("weight").and_then(Value::as_u64).unwrap_or_default();
        Some((field(value, "service")?, weight))
    };
    let split = Split {
        apex: spec.and_then(|spec| field(spec, "service")).unwrap_or_default(),
        backends: backends.into_iter().flatten().filter_map(backend).collect(),
    };
    Subject { split: Some(split), ..subject(object.metadata.clone()) }
}

/// Returns the name of a Service that may be written with its domain.
fn short(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_owned()
}
