//! Documents by which clients discover the API: its versions and resources.
//!
//! Pure. Made from the table of resources; the same for every user.

use serde_json::{Value, json};

use super::{
    GROUP, Version,
    resource::{RESOURCES, STORED},
};

/// Returns the `APIGroup`.
pub fn group() -> Value {
    let version =
        |version: Version| json!({"groupVersion": version.api_version(), "version": version.name()});
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": Version::ALL.map(version),
        "preferredVersion": version(Version::V1Alpha2),
    })
}

/// Returns the `APIResourceList` of a version. There are no short names: they are those of the objects themselves.
///
/// Only the resource that can be written has the kind `TrafficMetrics`, although SMI's document shows that kind for all of
/// them: kubectl maps a resource to its kind, and that to the last resource of the kind, so it would request the same
/// resource whatever it was asked for.
pub fn resources(version: Version) -> Value {
    let rows = RESOURCES.iter().flat_map(|resource| {
        let whole = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.discovered_kind(),
            "verbs": ["get", "list", "watch"],
            "categories": ["smi"],
        });
        let part = |name: &str| {
            json!({
                "name": format!("{}/{name}", resource.plural),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": "TrafficMetricsList",
                "verbs": ["get"],
            })
        };
        let routes = resource.has_routes().then(|| part("routes"));
        [whole, part("edges")].into_iter().chain(routes)
    });
    // No `watch`: the garbage collector and quotas of Kubernetes watch what can be deleted, and know objects by their UIDs,
    // which are those of the MetricsPolicies here.
    let stored = json!({
        "name": STORED,
        "singularName": STORED,
        "namespaced": true,
        "kind": "TrafficMetrics",
        "verbs": ["create", "delete", "get", "list", "patch", "update"],
        "categories": ["smi"],
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version.api_version(),
        "resources": rows.chain([stored]).collect::<Vec<Value>>(),
    })
}
