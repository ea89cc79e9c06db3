//! `split.smi-spec.io/v1alpha4`: `TrafficSplit`. Served and stored.

use kube_core::NamespaceResourceScope;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::number::Number;
use crate::object::{Kind, Object, or_default};

/// The version's name.
pub const VERSION: &str = "v1alpha4";

/// Splits a Service's traffic.
pub type TrafficSplit = Object<TrafficSplitSpec>;

/// What a `TrafficSplit` splits, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["backends", "service"]))]
pub struct TrafficSplitSpec {
    /// The root: the Service that clients call, by any of its names up to its full one.
    pub service: String,
    /// The Services that get the shares.
    #[serde(deserialize_with = "or_default")]
    pub backends: Vec<Backend>,
    /// The requests that are split, those that belong to one of the groups; all traffic if absent. The others go to
    /// the root's own endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<RouteGroupReference>>,
}

/// A Service with its share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["service"]))]
pub struct Backend {
    /// The name of a Service in the TrafficSplit's namespace.
    pub service: String,
    /// The share, in proportion to the sum of all weights: a whole number, 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        schema_with = "weight",
        description = "The share, in proportion to the sum of all weights: a whole number, 0 for none."
    )]
    pub weight: Option<Number>,
    /// The requests of this backend, as an early form of v1alpha3 had it. Understood if every backend says the same,
    /// and then the hub has it as the matches of the split; found here, it differs between backends and has no meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<RouteGroupReference>>,
}

/// Published definitions have a number, a quantity (text or number) and a whole number; a schema cannot say all that.
fn weight(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// A reference to an HTTPRouteGroup in the TrafficSplit's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct RouteGroupReference {
    /// The API group of the kind; specs.smi-spec.io if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
    /// The kind of the group.
    #[schemars(extend("enum" = ["HTTPRouteGroup"]))]
    pub kind: String,
    /// The name of the group.
    pub name: String,
}

impl Kind for TrafficSplitSpec {
    type Scope = NamespaceResourceScope;

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "TrafficSplit";
    const PLURAL: &'static str = "trafficsplits";
    const SHORT_NAME: Option<&'static str> = Some("ts");
    const DESCRIPTION: &'static str = "Sends shares of the traffic for a Service to other Services.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] =
        &[("Service", "The Service whose traffic is split.", ".spec.service")];
}
