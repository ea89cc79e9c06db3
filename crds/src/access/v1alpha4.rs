//! `access.smi-spec.io/v1alpha4`: `TrafficTarget` and `IdentityBinding`. Served and stored.
//!
//! The hub has one field more than the published version: a destination may have the `port` of v1alpha1 and v1alpha2.
//! Without it a TrafficTarget of these versions would open every port.

use std::collections::BTreeMap;

use kube_core::NamespaceResourceScope;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    number::Number,
    object::{Kind, Object, or_default},
    specs::RULE_KINDS,
};

/// Name of the version.
pub const VERSION: &str = "v1alpha4";

/// Allows sources to call a destination.
pub type TrafficTarget = Object<TrafficTargetSpec>;
/// Defines an identity by the labels, ServiceAccount or SPIFFE identities of its pods.
pub type IdentityBinding = Object<IdentityBindingSpec>;

/// Specification of a `TrafficTarget`: the traffic that it allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrafficTargetSpec {
    /// The identity whose pods may be called: a ServiceAccount or an IdentityBinding.
    #[serde(deserialize_with = "or_default")]
    pub destination: Subject,
    /// The traffic that is allowed: all traffic that at least one of the rules matches. An empty list allows nothing.
    #[serde(deserialize_with = "or_default")]
    pub rules: Vec<Rule>,
    /// The identities that may call the destination: ServiceAccounts or IdentityBindings. An empty list allows no
    /// caller.
    #[serde(deserialize_with = "or_default")]
    pub sources: Vec<Subject>,
}

/// Reference to an identity: all pods that run under it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct Subject {
    /// The API group of the identity's kind: empty for ServiceAccount, access.smi-spec.io for IdentityBinding.
    /// Defaults to the group of the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The kind of the identity: ServiceAccount or IdentityBinding.
    pub kind: String,
    /// The name of the ServiceAccount or IdentityBinding.
    pub name: String,
    /// The namespace of the ServiceAccount or IdentityBinding. Defaults to the namespace of the TrafficTarget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The only port of a destination's pods that may be called, out of those that the rules allow; without it there
    /// is no such restriction. A number, or a number as text; [`Number::as_text_or_i64`] reads both. Has no effect on
    /// a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        schema_with = "port",
        description = "Of a destination: the pods' only port that may be called, of those the rules allow; no restriction if absent. A number, or its text."
    )]
    pub port: Option<Number>,
}

/// Schema of a port, which is a number in some versions of SMI and text in others.
fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

/// Reference to a route object in the namespace of the TrafficTarget, which describes the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct Rule {
    /// The kind of the route object.
    #[schemars(extend("enum" = RULE_KINDS))]
    pub kind: String,
    /// The name of the route object.
    pub name: String,
    /// The names of the matches of an HTTPRouteGroup that apply. Defaults to all matches of the group; an empty list
    /// selects none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<String>>,
}

/// Specification of an `IdentityBinding`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["schemes"]))]
pub struct IdentityBindingSpec {
    /// The schemes that define the identity. An identity that any of them selects belongs to the binding.
    #[serde(deserialize_with = "or_default")]
    pub schemes: IdentitySchemes,
}

/// Schemes that define an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IdentitySchemes {
    /// Selects pods of the IdentityBinding's namespace by their labels. Excludes serviceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_label_selector: Option<PodLabelSelector>,
    /// The SPIFFE identities, each with or without the leading spiffe://.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe_identities: Option<Vec<String>>,
    /// The name of a ServiceAccount in the IdentityBinding's namespace. Excludes podLabelSelector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
}

/// Selector of pods by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["matchLabels"]))]
pub struct PodLabelSelector {
    /// The labels, each with its value. A pod must have all of them.
    #[serde(deserialize_with = "or_default")]
    pub match_labels: BTreeMap<String, String>,
}

impl Kind for TrafficTargetSpec {
    type Scope = NamespaceResourceScope;

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "TrafficTarget";
    const PLURAL: &'static str = "traffictargets";
    const SHORT_NAME: Option<&'static str> = Some("tt");
    const DESCRIPTION: &'static str = "Allows the sources to send the traffic of the rules to the destination's pods. All TrafficTargets together are the list of what is allowed; the rest is denied.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[];
}

impl Kind for IdentityBindingSpec {
    type Scope = NamespaceResourceScope;

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "IdentityBinding";
    const PLURAL: &'static str = "identitybindings";
    const SHORT_NAME: Option<&'static str> = Some("ib");
    const DESCRIPTION: &'static str =
        "Names an identity by what its pods have, for TrafficTargets to refer to.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[];
}
