//! Paths of the resource that can be written, for both dialects of OpenAPI.
//!
//! Pure. Used by `openapi`. kubectl reads from them that a server can try a write without keeping it (`dryRun`), that it
//! judges unknown fields itself (`fieldValidation`), and which patches it takes.

use serde_json::{Map, Value, json};

use super::{Dialect, GROUP, Version, map, reference, typed, window};
use crate::api::resource::STORED;

/// Types of patches.
const PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
/// Parameters of writes.
const OPTIONS: [(&str, &str); 3] = [
    ("dryRun", "All: nothing is kept."),
    ("fieldManager", "Name of the author of the fields."),
    ("fieldValidation", "Treatment of unknown fields: Ignore, Warn or Strict."),
];

/// Returns the paths.
pub(super) fn paths(dialect: Dialect, version: Version) -> Vec<(String, Value)> {
    let base = format!("/apis/{}", version.api_version());
    let list = format!("{base}/namespaces/{{namespace}}/{STORED}");
    let (scoped, named) = (&["namespace"][..], &["namespace", "name"][..]);
    let read = |action, kind, path: &[&str]| operation(dialect, version, (action, kind), path, None);
    let write = |action, path: &[&str], types: &[&str]| {
        operation(dialect, version, (action, "TrafficMetrics"), path, Some(types))
    };
    let json = ["application/json"];
    vec![
        (format!("{base}/{STORED}"), json!({"get": read("list", "TrafficMetricsList", &[])})),
        (
            list.clone(),
            json!({
                "get": read("list", "TrafficMetricsList", scoped),
                "post": write("post", scoped, &json),
            }),
        ),
        (
            format!("{list}/{{name}}"),
            json!({
                "get": read("get", "TrafficMetrics", named),
                "put": write("put", named, &json),
                "patch": write("patch", named, &PATCHES),
                "delete": operation(dialect, version, ("delete", "TrafficMetrics"), named, Some(&[])),
            }),
        ),
    ]
}

/// Returns an operation. `types` are those of the body of a write.
fn operation(
    dialect: Dialect,
    version: Version,
    (action, kind): (&str, &str),
    path: &[&str],
    types: Option<&[&str]>,
) -> Value {
    let mut parameters: Vec<Value> = path.iter().map(|name| super::of_path(dialect, name)).collect();
    match types {
        None => parameters.push(window(dialect)),
        Some(_) => parameters.extend(OPTIONS.map(|(name, description)| option(dialect, name, description))),
    }
    let schema = reference(dialect, version, kind);
    let content = |types: &[&str], schema: &Value| {
        types.iter().map(|it| ((*it).to_owned(), json!({"schema": schema}))).collect::<Map<String, Value>>()
    };
    let answer = match dialect {
        Dialect::Swagger => json!({"description": "OK", "schema": schema}),
        Dialect::OpenApi => json!({"description": "OK", "content": content(&["application/json"], &schema)}),
    };
    let scope = if path.is_empty() { "ForAllNamespaces" } else { "" };
    let gvk = json!({"group": GROUP, "version": version.name(), "kind": "TrafficMetrics"});
    let mut operation = map(&[
        ("operationId", json!(format!("{action}TrafficMetrics{scope}{}", version.name()))),
        ("responses", json!({"200": answer})),
        ("x-kubernetes-action", json!(action)),
        ("x-kubernetes-group-version-kind", gvk),
    ]);
    if dialect == Dialect::Swagger {
        operation.insert("produces".to_owned(), json!(["application/json"]));
    }
    if let Some(types) = types.filter(|types| !types.is_empty()) {
        let body = if action == "patch" { json!({"type": "object"}) } else { schema };
        match dialect {
            Dialect::Swagger => {
                operation.insert("consumes".to_owned(), json!(types));
                let body = json!({"name": "body", "in": "body", "required": true, "schema": body});
                parameters.push(body);
            }
            Dialect::OpenApi => {
                let body = json!({"required": true, "content": content(types, &body)});
                operation.insert("requestBody".to_owned(), body);
            }
        }
    }
    operation.insert("parameters".to_owned(), json!(parameters));
    Value::Object(operation)
}

fn option(dialect: Dialect, name: &str, description: &str) -> Value {
    let pairs = [("name", json!(name)), ("in", json!("query")), ("description", json!(description))];
    typed(dialect, map(&pairs))
}
