//! TrafficMetrics and TrafficMetricsList as they are on the wire, with the keys in the order of the SDK.
//!
//! Pure. Made by `assemble`, written by `answer`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::quantity;
use crate::traffic;

/// Traffic of an object, or of an edge of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficMetrics {
    /// `TrafficMetrics`.
    pub kind: &'static str,
    /// Group and version.
    pub api_version: &'static str,
    /// Metadata of the object, as far as clients need it.
    pub metadata: Metadata,
    /// Time of the answer, RFC 3339.
    pub timestamp: String,
    /// Length of the time up to then that is reported, for example `30s`.
    pub window: String,
    /// The object that has the traffic.
    pub resource: Reference,
    /// The edge.
    pub edge: Edge,
    /// The backend, for a TrafficSplit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// The route, for an item that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// The figures.
    pub metrics: Vec<Metric>,
    /// The same as numbers, for tables.
    #[serde(skip)]
    pub figures: traffic::Figures,
}

/// Metadata of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its namespace; empty: it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Path of the figures.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub self_link: String,
    /// The time of the answer, as a version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Time at which the object was created, RFC 3339; `null` if it is not known.
    pub creation_timestamp: Option<String>,
    /// Labels of the object.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of a bookmark; an object's own are not copied.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<&'static str, &'static str>,
}

/// Reference to an object, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// Its kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// Edge of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// `to`: the object calls; `from`: it is called.
    pub direction: &'static str,
    /// `client` or `server`: the side that has counted.
    pub side: &'static str,
    /// The other end; `null`: all, or not known.
    pub resource: Option<Reference>,
}

/// Backend of a TrafficSplit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// The root Service.
    pub apex: String,
    /// The backend Service.
    pub name: String,
    /// Its weight; 0 for one that the split does not have any more.
    pub weight: u64,
}

/// Route of calls: a match of an HTTPRouteGroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// `HTTPRouteGroup`.
    pub kind: &'static str,
    /// The namespace of the group.
    pub namespace: String,
    /// The name of the group.
    pub name: String,
    /// The name of the match.
    #[serde(rename = "match")]
    pub match_name: String,
}

impl Route {
    /// Returns the route of a name `namespace/group/match`.
    pub fn of(name: &str) -> Self {
        let mut parts = name.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { kind: "HTTPRouteGroup", namespace: next(), name: next(), match_name: next() }
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its unit; none for counts.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub unit: &'static str,
    /// Its value, a Quantity.
    pub value: String,
}

/// List of TrafficMetrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficMetricsList {
    /// `TrafficMetricsList`.
    pub kind: &'static str,
    /// Group and version.
    pub api_version: &'static str,
    /// Metadata of the list.
    pub metadata: ListMetadata,
    /// Kind, namespace and name that were asked about.
    pub resource: Reference,
    /// The items.
    pub items: Vec<TrafficMetrics>,
}

/// Metadata of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMetadata {
    /// Path of the list.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub self_link: String,
    /// The time of the answer, as a version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Token of the next part; empty: this is the last one.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
    /// Number of items that are left out or follow, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<u64>,
}

/// Returns the metrics: the five of SMI in the SDK's order, and the calls that policy refused.
pub fn metrics(figures: &traffic::Figures) -> Vec<Metric> {
    let latency =
        |name, share| Metric { name, unit: "ms", value: quantity::decimal(figures.percentile(share)) };
    let count = |name, number| Metric { name, unit: "", value: quantity::count(number) };
    vec![
        latency("p99_response_latency", 0.99),
        latency("p90_response_latency", 0.9),
        latency("p50_response_latency", 0.5),
        count("success_count", figures.success),
        count("failure_count", figures.failure),
        count("refused_count", figures.refused),
    ]
}
