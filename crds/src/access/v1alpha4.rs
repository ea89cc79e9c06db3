//! `access.smi-spec.io/v1alpha4`: `TrafficTarget` and `IdentityBinding`. Served and stored.
//!
//! The hub says more than the published version: a destination may have the `port` that v1alpha1 and v1alpha2 give it.
//! Without it a target of theirs would open every port.

use std::collections::BTreeMap;

use kube_core::NamespaceResourceScope;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::number::Number;
use crate::object::{Kind, Object, or_default};

/// The version's name.
pub const VERSION: &str = "v1alpha4";

/// Allows sources to call a destination.
pub type TrafficTarget = Object<TrafficTargetSpec>;
/// Names an identity by what pods have.
pub type IdentityBinding = Object<IdentityBindingSpec>;

/// What a `TrafficTarget` allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrafficTargetSpec {
    /// Whose pods may be called: a ServiceAccount or an IdentityBinding.
    #[serde(deserialize_with = "or_default")]
    pub destination: Subject,
    /// The traffic that is allowed: any that one of the rules allows. No rules allow nothing.
    #[serde(deserialize_with = "or_default")]
    pub rules: Vec<Rule>,
    /// Who may call. No sources allow nobody.
    #[serde(deserialize_with = "or_default")]
    pub sources: Vec<Subject>,
}

/// The pods that run under an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct Subject {
    /// The API group of the kind: empty for ServiceAccount, access.smi-spec.io for IdentityBinding. That of the kind
    /// if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The kind of the identity: ServiceAccount or IdentityBinding.
    pub kind: String,
    /// The name of the ServiceAccount or IdentityBinding.
    pub name: String,
    /// The namespace of the ServiceAccount or IdentityBinding; that of the TrafficTarget if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of a destination: the pods' one port that may be called, beside what the rules say; no restriction if absent.
    /// A number, or its text; [`Number::as_text_or_i64`] reads both.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        schema_with = "port",
        description = "Of a destination: the pods' one port that may be called, beside what the rules say; no restriction if absent. A number, or its text."
    )]
    pub port: Option<Number>,
}

/// SMI's versions disagree whether a port is a number or text.
fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true})
}

/// Traffic, by reference to a route object in the TrafficTarget's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct Rule {
    /// The kind of the route object.
    #[schemars(extend("enum" = ["HTTPRouteGroup", "TCPRoute", "UDPRoute"]))]
    pub kind: String,
    /// The name of the route object.
    pub name: String,
    /// Names of matches of an HTTPRouteGroup; all of them if absent, none if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<String>>,
}

/// What an `IdentityBinding` names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["schemes"]))]
pub struct IdentityBindingSpec {
    /// The ways to recognise the identity; any of them does.
    #[serde(deserialize_with = "or_default")]
    pub schemes: IdentitySchemes,
}

/// The ways to recognise an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IdentitySchemes {
    /// The pods of the IdentityBinding's namespace that have the labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_label_selector: Option<PodLabelSelector>,
    /// SPIFFE identities; the leading spiffe:// may be left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe_identities: Option<Vec<String>>,
    /// The name of a ServiceAccount in the IdentityBinding's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
}

/// Pods, by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["matchLabels"]))]
pub struct PodLabelSelector {
    /// The labels, all of which a pod must have.
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
