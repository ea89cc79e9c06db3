//! TrafficMetrics as they are on the wire, as far as they are read.
//!
//! Pure. Used by `page`, which decides what may be missing: here everything may, but for the names of metrics.

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct WireKind {
    #[serde(default)]
    pub(super) kind: String,
}

#[derive(Deserialize)]
pub(super) struct WireList {
    #[serde(default)]
    pub(super) metadata: WireListMetadata,
    pub(super) items: Option<Vec<WireItem>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireListMetadata {
    #[serde(rename = "continue")]
    pub(super) continue_token: Option<String>,
    pub(super) remaining_item_count: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct WireItem {
    pub(super) metadata: Option<WireObject>,
    pub(super) timestamp: Option<String>,
    pub(super) window: Option<String>,
    pub(super) resource: Option<WireObject>,
    pub(super) edge: Option<WireEdge>,
    pub(super) backend: Option<WireBackend>,
    pub(super) route: Option<WireRoute>,
    pub(super) metrics: Option<Vec<WireMetric>>,
}

#[derive(Default, Deserialize)]
pub(super) struct WireObject {
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

#[derive(Default, Deserialize)]
pub(super) struct WireEdge {
    pub(super) direction: Option<String>,
    pub(super) side: Option<String>,
    pub(super) resource: Option<WireObject>,
}

#[derive(Deserialize)]
pub(super) struct WireBackend {
    pub(super) name: Option<String>,
    pub(super) weight: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct WireRoute {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, rename = "match")]
    pub(super) match_name: String,
}

#[derive(Deserialize)]
pub(super) struct WireMetric {
    pub(super) name: String,
    pub(super) unit: Option<String>,
    pub(super) value: Option<Value>,
}
