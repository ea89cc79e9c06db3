//! The OpenAPI documents of the API, for `kubectl explain`.
//!
//! Pure. Made from the table of resources and one description of TrafficMetrics; the same for every user.

mod schema;
mod stored;

use serde_json::{Map, Value, json};

use self::schema::schemas;
use super::{GROUP, Version, resource::RESOURCES};

/// Place of the schemas in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// Version 2.
    Swagger,
    /// Version 3.
    OpenApi,
}

/// Returns the document of version 2, with both versions of the API.
pub fn v2() -> Value {
    let dialect = Dialect::Swagger;
    let paths: Map<String, Value> =
        Version::ALL.into_iter().flat_map(|version| paths(dialect, version)).collect();
    let definitions: Map<String, Value> =
        Version::ALL.into_iter().flat_map(|version| schemas(dialect, version)).collect();
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions})
}

/// Returns the list of documents of version 3. `hash` of an address is the version of the program: a document that
/// changes gets a new address.
pub fn v3_index() -> Value {
    let entry = |version: Version| {
        let path = format!("apis/{}", version.api_version());
        let hash = env!("CARGO_PKG_VERSION");
        let address = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")});
        (path, address)
    };
    json!({"paths": Version::ALL.map(entry).into_iter().collect::<Map<String, Value>>()})
}

/// Returns the document of version 3 of a version of the API.
pub fn v3(version: Version) -> Value {
    let dialect = Dialect::OpenApi;
    let paths: Map<String, Value> = paths(dialect, version).collect();
    let schemas: Map<String, Value> = schemas(dialect, version).into_iter().collect();
    json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": {"schemas": schemas}})
}

fn info() -> Value {
    json!({"title": "Smidge TrafficMetrics", "version": env!("CARGO_PKG_VERSION")})
}

/// Returns the name of a schema.
fn name(version: Version, kind: &str) -> String {
    format!("io.smi-spec.metrics.{}.{kind}", version.name())
}

fn reference(dialect: Dialect, version: Version, kind: &str) -> Value {
    let place = match dialect {
        Dialect::Swagger => "#/definitions",
        Dialect::OpenApi => "#/components/schemas",
    };
    json!({"$ref": format!("{place}/{}", name(version, kind))})
}

/// Returns the paths of all resources.
fn paths(dialect: Dialect, version: Version) -> impl Iterator<Item = (String, Value)> {
    let base = format!("/apis/{}", version.api_version());
    RESOURCES
        .iter()
        .flat_map(move |resource| {
            let plural = resource.plural;
            let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
            let scoped: &[&str] = if resource.namespaced { &["namespace"] } else { &[] };
            let named = [scoped, &["name"]].concat();
            let operation = |action, kind, parameters: &[&str], id: &str| {
                let id = format!("{action}{}{id}", resource.kind_name);
                operation(dialect, version, (action, kind), parameters, &id)
            };
            let one = format!("{base}{scope}/{plural}/{{name}}");
            let mut all = vec![
                (format!("{base}{scope}/{plural}"), operation("list", "TrafficMetricsList", scoped, "")),
                (format!("{one}/edges"), operation("get", "TrafficMetricsList", &named, "Edges")),
                (one.clone(), operation("get", "TrafficMetrics", &named, "")),
            ];
            if resource.has_routes() {
                all.push((format!("{one}/routes"), operation("get", "TrafficMetricsList", &named, "Routes")));
            }
            if resource.namespaced {
                let everywhere = operation("list", "TrafficMetricsList", &[], "ForAllNamespaces");
                all.push((format!("{base}/{plural}"), everywhere));
            }
            all
        })
        .chain(stored::paths(dialect, version))
}

fn operation(
    dialect: Dialect,
    version: Version,
    (action, kind): (&str, &str),
    parameters: &[&str],
    id: &str,
) -> Value {
    let of_path = parameters.iter().map(|name| of_path(dialect, name));
    let parameters: Vec<Value> = of_path.chain([window(dialect)]).collect();
    let schema = reference(dialect, version, kind);
    let answer = match dialect {
        Dialect::Swagger => json!({"description": "OK", "schema": schema}),
        Dialect::OpenApi => json!({"description": "OK", "content": {"application/json": {"schema": schema}}}),
    };
    let mut operation = map(&[
        ("operationId", json!(format!("{id}{}", version.name()))),
        ("parameters", json!(parameters)),
        ("responses", json!({"200": answer})),
        ("x-kubernetes-action", json!(action)),
        (
            "x-kubernetes-group-version-kind",
            json!({"group": GROUP, "version": version.name(), "kind": "TrafficMetrics"}),
        ),
    ]);
    if dialect == Dialect::Swagger {
        operation.insert("produces".to_owned(), json!(["application/json"]));
    }
    json!({"get": operation})
}

/// Returns a parameter with the type of a text.
fn typed(dialect: Dialect, mut parameter: Map<String, Value>) -> Value {
    match dialect {
        Dialect::Swagger => parameter.insert("type".to_owned(), json!("string")),
        Dialect::OpenApi => parameter.insert("schema".to_owned(), json!({"type": "string"})),
    };
    Value::Object(parameter)
}

/// Returns the parameter of a part of a path.
fn of_path(dialect: Dialect, name: &str) -> Value {
    typed(dialect, map(&[("name", json!(name)), ("in", json!("path")), ("required", json!(true))]))
}

/// Returns the parameter of the window.
fn window(dialect: Dialect) -> Value {
    let description = "Length of the time that is reported, from 10s to 1h; 30s by default.";
    typed(
        dialect,
        map(&[("name", json!("window")), ("in", json!("query")), ("description", json!(description))]),
    )
}

fn map(pairs: &[(&str, Value)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}
