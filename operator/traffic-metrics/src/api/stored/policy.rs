//! Translates between TrafficMetrics and the MetricsPolicies by which they are kept.
//!
//! Pure. Used by the server for bodies of requests and objects of the API server, and by `patch`. Takes from a
//! TrafficMetrics what it has measured, its name, labels and annotations, and nothing else: with the operator's rights,
//! its author could otherwise set owners, finalizers or rules.

use serde_json::{Map, Value, json};

use super::call::{Stored, Validation};
use crate::{
    api::{
        access::is_name,
        query::shown,
        resource::{RESOURCES, Resource, STORED},
        status::{Cause, Status},
    },
    traffic::Kind,
};

/// Group and version of MetricsPolicy.
pub const API_VERSION: &str = "smidge.mesh/v1alpha1";
/// Its kind.
pub const KIND: &str = "MetricsPolicy";
/// Its resource.
pub const POLICIES: &str = "metricspolicies";

/// Fields of a TrafficMetrics that are answers.
const ANSWERS: [&str; 6] = ["backend", "edge", "metrics", "route", "timestamp", "window"];
/// Fields that are read.
const READ: [&str; 4] = ["apiVersion", "kind", "metadata", "resource"];
/// Fields of metadata that are taken.
const TAKEN: [&str; 7] =
    ["annotations", "generateName", "labels", "name", "namespace", "resourceVersion", "uid"];
/// Fields of metadata that the API server writes, and clients send back.
const WRITTEN: [&str; 5] =
    ["creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "selfLink"];
/// Fields of a reference, of which three are read.
const REFERENCE: [&str; 7] =
    ["apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"];
/// Maximum number of fields that are named in an answer.
const MAX_NAMED: usize = 10;

/// Content of a TrafficMetrics that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The fields of its metadata that are taken.
    metadata: Map<String, Value>,
    /// Fields of the target: `kind`, `name`.
    target: Map<String, Value>,
    /// Texts about what has no effect.
    pub warnings: Vec<String>,
}

/// Returns the resource of the objects that can be measured by a TrafficMetrics of this kind.
pub fn resource_of(kind: &str) -> Option<&'static Resource> {
    // Nodes have no namespace in which a policy could be.
    RESOURCES.iter().find(|resource| resource.kind_name == kind && resource.kind != Kind::Node)
}

/// Reads a TrafficMetrics that a user has sent. `is_whole` is false for a part that is applied.
pub fn read(object: &Value, request: &Stored, is_whole: bool) -> Result<Wanted, Status> {
    let Some(fields) = object.as_object() else {
        return Err(Status::bad_request("the body is not an object: expected a TrafficMetrics"));
    };
    for (field, expected) in [("apiVersion", request.version.api_version()), ("kind", "TrafficMetrics")] {
        let found = fields.get(field).and_then(Value::as_str).unwrap_or_default();
        if found != expected {
            return Err(Status::bad_request(format!(
                "invalid {field} {} of the body: expected {expected:?}",
                shown(found)
            )));
        }
    }
    let mut wanted = Wanted { metadata: metadata(fields, request)?, ..Wanted::default() };
    let name = wanted.metadata.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    match fields.get("resource") {
        None | Some(Value::Null) if !is_whole => {}
        reference => {
            wanted.target =
                target(reference, request, is_whole).map_err(|causes| Status::invalid(&name, causes))?;
        }
    }
    wanted.warnings = warnings(fields, request.options.validation)?;
    Ok(wanted)
}

/// Reads the metadata that is taken.
fn metadata(fields: &Map<String, Value>, request: &Stored) -> Result<Map<String, Value>, Status> {
    let none = Map::new();
    let given = match fields.get("metadata") {
        Some(Value::Object(given)) => given,
        None | Some(Value::Null) => &none,
        Some(_) => return Err(Status::bad_request("invalid metadata: expected an object")),
    };
    let taken = given.iter().filter(|(key, value)| TAKEN.contains(&key.as_str()) && !value.is_null());
    let mut metadata: Map<String, Value> = taken.map(|(key, value)| (key.clone(), value.clone())).collect();
    for (field, of_path) in [("namespace", &request.namespace), ("name", &request.name)] {
        let Some(of_path) = of_path else { continue };
        let found = metadata.entry(field).or_insert_with(|| json!(of_path));
        if *found == "" {
            *found = json!(of_path);
        }
        if found != of_path {
            let found = shown(found.as_str().unwrap_or("not a text"));
            return Err(Status::bad_request(format!(
                "the {field} of the body, {found}, does not match the {field} of the request: expected {of_path:?}"
            )));
        }
    }
    Ok(metadata)
}

/// Reads the reference to the object that is measured.
fn target(
    reference: Option<&Value>,
    request: &Stored,
    is_whole: bool,
) -> Result<Map<String, Value>, Vec<Cause>> {
    let cause = |reason: &'static str, field: &str, message: String| Cause {
        reason: reason.into(),
        message,
        field: format!("resource{field}"),
    };
    let Some(Value::Object(reference)) = reference else {
        let message = "Required value: expected the kind and name of the object to measure (hint: resource: {kind: \
                       Deployment, name: web})";
        return Err(vec![cause("FieldValueRequired", "", message.to_owned())]);
    };
    let (mut target, mut causes) = (Map::new(), Vec::new());
    for field in ["kind", "name"] {
        match reference.get(field).and_then(Value::as_str).unwrap_or_default() {
            "" if is_whole => {
                let message = format!("Required value: expected the {field} of the object to measure");
                causes.push(cause("FieldValueRequired", &format!(".{field}"), message));
            }
            "" => {}
            text => drop(target.insert(field.to_owned(), json!(text))),
        }
    }
    let text = |field: &str| target.get(field).and_then(Value::as_str);
    if let Some(kind) = text("kind").filter(|kind| resource_of(kind).is_none()) {
        let kinds = RESOURCES.iter().map(|resource| resource.kind_name).filter(|kind| *kind != "Node");
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        let message = format!("Unsupported value: {}: expected one of {kinds}", shown(kind));
        causes.push(cause("FieldValueNotSupported", ".kind", message));
    }
    let own = request.namespace.as_deref().unwrap_or_default();
    let invalid = |field: &str, found: &str, expected: String| {
        let message = format!("Invalid value: {}: expected {expected}", shown(found));
        cause("FieldValueInvalid", field, message)
    };
    if let Some(name) = text("name").filter(|name| !is_name(name)) {
        causes.push(invalid(".name", name, "the name of an object".to_owned()));
    }
    if let (Some("Namespace"), Some(name)) = (text("kind"), text("name").filter(|name| *name != own)) {
        causes.push(invalid(".name", name, format!("{own:?}, the namespace of the TrafficMetrics")));
    }
    let namespace = reference.get("namespace").filter(|it| !it.is_null() && **it != "" && **it != own);
    if let Some(namespace) = namespace {
        let found = namespace.as_str().unwrap_or("not a text");
        let expected = format!(
            "{own:?}, the namespace of the TrafficMetrics (hint: apply it in the namespace of the object that it measures)"
        );
        causes.push(invalid(".namespace", found, expected));
    }
    if causes.is_empty() { Ok(target) } else { Err(causes) }
}

/// Returns warnings about fields without effect; an error if fields are not known and that is not allowed.
fn warnings(fields: &Map<String, Value>, validation: Validation) -> Result<Vec<String>, Status> {
    let object = |name: &str| fields.get(name).and_then(Value::as_object).into_iter().flatten();
    let mut unknown = Vec::new();
    unknown
        .extend(fields.keys().filter(|key| ![&READ[..], &ANSWERS].concat().contains(&key.as_str())).cloned());
    let of_reference = object("resource").filter(|(key, _)| !REFERENCE.contains(&key.as_str()));
    unknown.extend(of_reference.map(|(key, _)| format!("resource.{key}")));
    let mut warnings = Vec::new();
    if !unknown.is_empty() && validation != Validation::Ignore {
        let list = list(&unknown);
        if validation == Validation::Strict {
            return Err(Status::bad_request(format!("strict decoding error: unknown fields {list}")));
        }
        warnings.push(format!("unknown fields {list}"));
    }
    let answers = ANSWERS.iter().filter(|key| fields.get(**key).is_some_and(|value| !value.is_null()));
    let mut idle: Vec<String> = answers.map(|key| (*key).to_owned()).collect();
    let kept = object("metadata").filter(|(key, value)| {
        let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        !is_empty && !TAKEN.contains(&key.as_str()) && !WRITTEN.contains(&key.as_str())
    });
    idle.extend(kept.map(|(key, _)| format!("metadata.{key}")));
    if !idle.is_empty() {
        warnings.push(format!("no effect in a TrafficMetrics that is written: {}", list(&idle)));
    }
    Ok(warnings)
}

/// Returns some fields as a text, quoted and cut.
fn list(fields: &[String]) -> String {
    let some = fields.iter().take(MAX_NAMED).map(|field| shown(field)).collect::<Vec<_>>().join(", ");
    if fields.len() > MAX_NAMED { format!("{some} and others") } else { some }
}

impl Wanted {
    /// Returns the new MetricsPolicy.
    pub fn new_policy(self) -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": KIND, "metadata": self.metadata, "spec": {"target": self.target},
        })
    }

    /// Returns the part of a MetricsPolicy that is applied. With a UID, it is applied to that object alone, so that it
    /// creates none.
    pub fn applied(self, uid: Option<&Value>) -> Value {
        let mut policy = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": self.metadata});
        if let (Some(uid), None) = (uid, policy.pointer("/metadata/uid")) {
            set(&mut policy, "metadata", "uid", Some(uid.clone()));
        }
        if !self.target.is_empty() {
            set(&mut policy, "spec", "target", Some(Value::Object(self.target)));
        }
        policy
    }

    /// Returns the MetricsPolicy as it is to be instead of `current`, whose rules it keeps.
    pub fn onto(mut self, mut current: Value) -> Value {
        for field in ["labels", "annotations"] {
            set(&mut current, "metadata", field, self.metadata.remove(field));
        }
        for field in ["resourceVersion", "uid"] {
            if let Some(value) = self.metadata.remove(field).filter(|value| *value != "") {
                set(&mut current, "metadata", field, Some(value));
            }
        }
        // The API server keeps what is not there.
        set(&mut current, "metadata", "managedFields", None);
        set(&mut current, "spec", "target", Some(Value::Object(self.target)));
        current
    }

    /// Returns true if the user has named the version of the object that is replaced.
    pub fn has_version(&self) -> bool {
        self.metadata.get("resourceVersion").is_some_and(|version| *version != "")
    }
}

/// Sets or removes a field of a part of an object.
fn set(object: &mut Value, part: &str, field: &str, value: Option<Value>) {
    let Some(object) = object.as_object_mut() else { return };
    let Some(part) = object.entry(part).or_insert_with(|| json!({})).as_object_mut() else { return };
    match value {
        Some(value) => drop(part.insert(field.to_owned(), value)),
        None => drop(part.remove(field)),
    }
}

/// A MetricsPolicy as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// Its metadata, without authors of fields, owners and finalizers.
    pub metadata: Map<String, Value>,
    /// Kind of the object that is measured.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Shown {
    /// Returns what is shown of a MetricsPolicy.
    pub fn of(policy: &Value) -> Self {
        let mut metadata = policy.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
        for field in ["managedFields", "ownerReferences", "finalizers"] {
            metadata.remove(field);
        }
        let target = |field: &str| {
            let value = policy.pointer("/spec/target").and_then(|target| target.get(field));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Self { metadata, kind: target("kind"), name: target("name") }
    }

    /// Returns a text of the metadata.
    pub fn text(&self, field: &str) -> &str {
        self.metadata.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the resource of the object that is measured, if it has figures.
    pub fn resource(&self) -> Option<&'static Resource> {
        resource_of(&self.kind)
    }

    /// Returns the object as its author sees it, without figures.
    pub fn object(&self, request: &Stored) -> Value {
        json!({
            "apiVersion": request.version.api_version(), "kind": "TrafficMetrics", "metadata": self.metadata,
            "resource": {"kind": self.kind, "namespace": self.text("namespace"), "name": self.name},
        })
    }
}

/// Returns the path of MetricsPolicies, of a namespace or all.
pub fn path(namespace: Option<&str>, name: Option<&str>) -> String {
    let scope = namespace.map_or_else(String::new, |it| format!("/namespaces/{it}"));
    let name = name.map_or_else(String::new, |it| format!("/{it}"));
    format!("/apis/{API_VERSION}{scope}/{POLICIES}{name}")
}

/// Returns a text about MetricsPolicies as one about TrafficMetrics.
pub fn translated(text: &str) -> String {
    let group = API_VERSION.split('/').next().unwrap_or_default();
    text.replace(&format!("{POLICIES}.{group}"), &format!("{STORED}.{}", crate::api::GROUP))
        .replace(&format!("{KIND}.{group}"), &format!("TrafficMetrics.{}", crate::api::GROUP))
        .replace("spec.target", "resource")
}
