//! `split.smi-spec.io/v1alpha4`: `TrafficSplit`. Served and stored.

use kube_core::NamespaceResourceScope;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    number::Number,
    object::{Kind, Object, or_default},
    specs::MATCH_KINDS,
};

/// Name of the version.
pub const VERSION: &str = "v1alpha4";

/// Splits a Service's traffic.
pub type TrafficSplit = Object<TrafficSplitSpec>;

/// Specification of a `TrafficSplit`: the root, its backends, and the requests that are split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["backends", "service"]))]
pub struct TrafficSplitSpec {
    /// The root: the Service that clients call. Its bare name, or any longer form up to the fully qualified domain
    /// name.
    pub service: String,
    /// The Services that receive the traffic, each with its share.
    #[serde(deserialize_with = "or_default")]
    pub backends: Vec<Backend>,
    /// The requests that are split: those that belong to at least one of the groups. Other requests go to the root's
    /// own endpoints. Defaults to all traffic; an empty list matches no request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<RouteGroupReference>>,
}

/// Service with its share of the traffic.
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
    /// The requests of this backend, a field of an early form of v1alpha3. If every backend has the same value, it is
    /// converted to the matches of the split. A value that is stored here differs between the backends, and then the
    /// split has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<RouteGroupReference>>,
}

/// Schema without a type: published definitions have a number, a quantity (text or number) and a whole number, which
/// one schema cannot express.
fn weight(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// Reference to an HTTPRouteGroup in the namespace of the TrafficSplit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct RouteGroupReference {
    /// The API group of the kind. Defaults to specs.smi-spec.io.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
    /// The kind of the route object: HTTPRouteGroup.
    #[schemars(extend("enum" = MATCH_KINDS))]
    pub kind: String,
    /// The name of the HTTPRouteGroup.
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
