//! Schemas of TrafficMetrics and its parts, for both dialects of OpenAPI.
//!
//! Pure. Used by `openapi`. Describes the types of `object`, which the golden answers show.

use serde_json::{Value, json};

use super::{Dialect, GROUP, Version, map, name, reference};

/// Returns the schemas of a version, by name.
pub(super) fn schemas(dialect: Dialect, version: Version) -> Vec<(String, Value)> {
    let refer = |kind: &str| reference(dialect, version, kind);
    let kinds = [("TrafficMetrics", one(&refer)), ("TrafficMetricsList", list(&refer))];
    let kinds = kinds.map(|(kind, (description, mut properties))| {
        properties.insert(0, ("kind", text(&format!("{kind}."))));
        properties.insert(0, ("apiVersion", text("Version of the API.")));
        let is_a = json!([{"group": GROUP, "version": version.name(), "kind": kind}]);
        let properties = map(&properties);
        let schema = json!({
            "type": "object", "description": description, "properties": properties,
            "x-kubernetes-group-version-kind": is_a,
        });
        (name(version, kind), schema)
    });
    let parts = [
        ("ObjectReference", object_reference()),
        ("Edge", edge(&refer)),
        ("Backend", backend()),
        ("Route", route()),
        ("Metric", metric()),
    ];
    let parts = parts.map(|(kind, (description, properties))| {
        let properties = map(&properties);
        let schema = json!({"type": "object", "description": description, "properties": properties});
        (name(version, kind), schema)
    });
    kinds.into_iter().chain(parts).collect()
}

/// Description and properties of an object.
type Fields = (&'static str, Vec<(&'static str, Value)>);

fn one(refer: &impl Fn(&str) -> Value) -> Fields {
    let properties = vec![
        ("metadata", json!({"type": "object", "description": "Name, namespace and labels of the object."})),
        ("timestamp", text("Time of the answer, the end of the window (RFC 3339).")),
        ("window", text("Length of the time that is reported, for example 30s.")),
        ("resource", part(refer("ObjectReference"), "The object that has the traffic.")),
        ("edge", part(refer("Edge"), "The other end of the calls, and the side that has counted.")),
        ("backend", part(refer("Backend"), "The backend that took the calls, for a TrafficSplit.")),
        ("route", part(refer("Route"), "The route of the calls, for an item of the routes of an object.")),
        ("metrics", items(refer("Metric"), "The figures.")),
    ];
    ("Traffic of an object of Kubernetes, or of an edge of it, within a window.", properties)
}

fn list(refer: &impl Fn(&str) -> Value) -> Fields {
    let properties = vec![
        ("metadata", json!({"type": "object", "description": "Metadata of the list."})),
        ("resource", part(refer("ObjectReference"), "The kind, namespace and name that was asked about.")),
        ("items", items(refer("TrafficMetrics"), "The items.")),
    ];
    ("List of TrafficMetrics.", properties)
}

fn object_reference() -> Fields {
    let properties = vec![
        ("kind", text("Kind of the object.")),
        ("namespace", text("Namespace of the object.")),
        ("name", text("Name of the object.")),
    ];
    ("Reference to an object, as far as it is known.", properties)
}

fn edge(refer: &impl Fn(&str) -> Value) -> Fields {
    let properties = vec![
        ("direction", text("to: the object calls the peer; from: the peer calls the object.")),
        ("side", text("Side whose proxy has counted: client or server.")),
        ("resource", part(refer("ObjectReference"), "The peer; null: all peers, or one that is not known.")),
    ];
    ("Calls between the object and one peer, or all.", properties)
}

fn backend() -> Fields {
    let properties = vec![
        ("apex", text("Root Service of the TrafficSplit.")),
        ("name", text("Service that took the calls.")),
        ("weight", json!({"type": "integer", "format": "int64", "description": "Weight of the backend."})),
    ];
    ("Backend of a TrafficSplit.", properties)
}

fn route() -> Fields {
    let properties = vec![
        ("kind", text("HTTPRouteGroup.")),
        ("namespace", text("Namespace of the HTTPRouteGroup.")),
        ("name", text("Name of the HTTPRouteGroup.")),
        ("match", text("Name of the match.")),
    ];
    ("Match that calls met, of those that a MetricsPolicy has measured.", properties)
}

fn metric() -> Fields {
    let properties = vec![
        (
            "name",
            text(
                "p99_response_latency, p90_response_latency, p50_response_latency, success_count, failure_count, or \
                 refused_count: calls that policy refused, which are in neither of the other counts.",
            ),
        ),
        ("unit", text("ms for latencies; absent for counts.")),
        ("value", text("A Quantity, for example 296875m.")),
    ];
    ("One figure.", properties)
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// Returns a reference with a description of its own.
#[expect(clippy::needless_pass_by_value, reason = "the macro takes it by reference")]
fn part(schema: Value, description: &str) -> Value {
    json!({"description": description, "allOf": [schema]})
}

#[expect(clippy::needless_pass_by_value, reason = "the macro takes it by reference")]
fn items(schema: Value, description: &str) -> Value {
    json!({"type": "array", "description": description, "items": schema})
}
