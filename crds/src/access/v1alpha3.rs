//! `access.smi-spec.io/v1alpha3`: `TrafficTarget`. Served and stored.

use kube_core::NamespaceResourceScope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::object::{Kind, Object, Written, or_default};

/// The version's name.
pub const VERSION: &str = "v1alpha3";

/// Allows sources to call a destination.
pub type TrafficTarget = Object<TrafficTargetSpec>;

/// What a `TrafficTarget` allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["destination", "rules", "sources"]))]
pub struct TrafficTargetSpec {
    /// Whose pods may be called: a ServiceAccount.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct Subject {
    /// The kind of the identity: ServiceAccount.
    pub kind: String,
    /// The name of the ServiceAccount.
    pub name: String,
    /// The namespace of the ServiceAccount; that of the TrafficTarget if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
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

impl Kind for TrafficTargetSpec {
    type Scope = NamespaceResourceScope;
    type Written = Written<Self>;

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "TrafficTarget";
    const PLURAL: &'static str = "traffictargets";
    const SHORT_NAME: Option<&'static str> = Some("tt");
    const DESCRIPTION: &'static str = "Allows the sources to send the traffic of the rules to the destination's pods. All TrafficTargets together are the list of what is allowed; the rest is denied.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[];
}
