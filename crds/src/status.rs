//! The status that every kind has: what the mesh made of the object.
//!
//! Written by `smidge`'s `report`, through the status subresource; nothing reads it to decide anything. SMI
//! specifies no status, so conditions are those that Kubernetes' users know.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What the mesh made of this object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation of the object that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The state of the object, one condition a type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A status in a form of somebody else's (meshes before us wrote bare words) is none.
pub(crate) fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Status>, D::Error> {
    let written = Option::<Value>::deserialize(deserializer)?;
    Ok(written.and_then(|status| serde_json::from_value(status).ok()))
}
