//! Finds fields that an object's version does not have.
//!
//! The API server drops them, and kubectl refuses the object by default; in files they would go unnoticed. The
//! definitions list the fields that exist, so a field that conversion understands is not reported. Does not look at
//! values.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;
use smidge_crds::definitions;

use super::Document;
use crate::{
    finding::{Finding, ObjectRef, Reason},
    near::nearest,
};

/// Maximum number of fields that are reported for one object. Elements of a list that have the same field count as one.
const MOST: usize = 20;

static DEFINITIONS: LazyLock<Vec<CustomResourceDefinition>> =
    LazyLock::new(|| definitions::all().unwrap_or_default());

/// A field that is not known.
struct Unknown {
    /// First place where it occurs.
    place: String,
    /// Number of list elements in which it occurs.
    times: usize,
    /// Field that may be meant.
    near: Option<String>,
}

/// Returns findings for the fields of `document` that its version does not have.
pub(super) fn fields(document: &Document, object: &ObjectRef) -> Vec<Finding> {
    let Document { group, version, kind, value, .. } = document;
    let Some(schema) = schema(group, kind, version) else { return Vec::new() };
    let mut reader = Reader { found: BTreeMap::new(), left_out: 0 };
    reader.read(schema, value, "", "");
    let Reader { found, left_out } = reader;
    let is_full = found.len() == MOST && left_out > 0;
    let mut findings: Vec<Finding> =
        found.into_values().map(|it| it.finding(object, kind, version)).collect();
    if let Some(last) = findings.last_mut().filter(|_| is_full) {
        last.message.push_str("; there are more such fields");
    }
    findings
}

fn schema(group: &str, kind: &str, version: &str) -> Option<&'static JSONSchemaProps> {
    let is_it = |it: &&CustomResourceDefinition| it.spec.group == group && it.spec.names.kind == kind;
    let versions = &DEFINITIONS.iter().find(is_it)?.spec.versions;
    let schema = versions.iter().find(|it| it.name == version)?.schema.as_ref()?;
    schema.open_api_v3_schema.as_ref()
}

impl Unknown {
    fn finding(self, object: &ObjectRef, kind: &str, version: &str) -> Finding {
        let Self { place, times, near } = self;
        let more = match times {
            1 => String::new(),
            2 => ", here and in one other place".to_owned(),
            _ => format!(", here and in {} other places", times - 1),
        };
        let name = place.rsplit('.').next().unwrap_or_default();
        let message = format!(
            "unknown field {name:?} in {version} of {kind}: kubectl refuses it by default, and the API server drops it{more}"
        );
        let finding = Finding::new(object.clone(), Reason::UnknownField, message).at(place);
        match near {
            Some(near) => finding.hint(format!("did you mean {near}?")),
            None => finding,
        }
    }
}

struct Reader {
    /// Unknown fields by path, which is the place without indices.
    found: BTreeMap<String, Unknown>,
    left_out: usize,
}

impl Reader {
    /// Reads the value at `place`; `path` is the same without indices.
    fn read(&mut self, schema: &JSONSchemaProps, value: &Value, place: &str, path: &str) {
        if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
            return;
        }
        match value {
            Value::Object(fields) => {
                let Some(known) = &schema.properties else {
                    if let Some(JSONSchemaPropsOrBool::Schema(each)) = &schema.additional_properties {
                        for (name, inner) in fields {
                            self.read(each, inner, &join(place, name), &join(path, name));
                        }
                    }
                    return;
                };
                for (name, inner) in fields {
                    match known.get(name) {
                        Some(schema) => self.read(schema, inner, &join(place, name), &join(path, name)),
                        None if place.is_empty() && is_of_every_object(name) => {}
                        None => self.add(join(place, name), join(path, name), || near(known, place, name)),
                    }
                }
            }
            Value::Array(list) => {
                let Some(JSONSchemaPropsOrArray::Schema(each)) = &schema.items else { return };
                for (index, inner) in list.iter().enumerate() {
                    self.read(each, inner, &format!("{place}[{index}]"), &format!("{path}[]"));
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, place: String, path: String, near: impl FnOnce() -> Option<String>) {
        if let Some(known) = self.found.get_mut(&path) {
            known.times += 1;
        } else if self.found.len() < MOST {
            self.found.insert(path, Unknown { place, times: 1, near: near() });
        } else {
            self.left_out += 1;
        }
    }
}

fn is_of_every_object(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// Returns the field that may be meant: a similar name beside it, or the same name in `spec`, where most fields are.
fn near(known: &BTreeMap<String, JSONSchemaProps>, place: &str, name: &str) -> Option<String> {
    let of_spec =
        || known.get("spec")?.properties.as_ref()?.contains_key(name).then(|| format!("spec.{name}"));
    let beside = || nearest(name, known.keys().map(String::as_str)).map(|near| join(place, near));
    if place.is_empty() { of_spec().or_else(beside) } else { beside() }
}
