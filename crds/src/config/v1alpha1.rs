//! `smidge.mesh/v1alpha1`: `MeshConfig`. Served and stored.

use std::fmt;
use std::str::FromStr;

use kube_core::ClusterResourceScope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::number::Number;
use crate::object::{Kind, Object, or_default};
use crate::setting::Setting;

/// The version's name.
pub const VERSION: &str = "v1alpha1";

/// Settings of the whole mesh.
pub type MeshConfig = Object<MeshConfigSpec>;

/// The settings of a `MeshConfig`; each has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshConfigSpec {
    /// How access is decided.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "AccessSettings::is_empty")]
    pub access: AccessSettings,
    /// Whether callers must use mTLS.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "MtlsSettings::is_empty")]
    pub mtls: MtlsSettings,
    /// Which pods are taken into the mesh.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "InjectionSettings::is_empty")]
    pub injection: InjectionSettings,
    /// Whether a pathRegex matches any path that begins as it says (open, the default, as SMI specifies), or must
    /// match the whole path (closed, as Open Service Mesh did).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex_end: Option<Setting<PathRegexEnd>>,
    /// How much one namespace's objects may cost. A unit is about one instruction of a regular expression's program. What
    /// does not fit loses its own effect, the oldest objects are kept.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BudgetSettings::is_empty")]
    pub budgets: BudgetSettings,
}

/// How much one namespace's objects may cost the operator and the proxies. None is reached by a mesh of thousands of Services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct BudgetSettings {
    /// One HTTPRouteGroup, TrafficTarget or IdentityBinding; default 1000000. A match costs 400, 200 for each method, 400 for
    /// each header, and the programs of its regular expressions; a source 500 for each HTTPRouteGroup or match that is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Number>,
    /// All TrafficTargets of one ServiceAccount as destination, times the ports of its Services or pods; default 2000000. The matches
    /// of a group count once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Number>,
    /// The matches of a TrafficSplit, times the HTTP ports of its root; default 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Number>,
    /// All TrafficTargets of a namespace, and likewise the matches of all its TrafficSplits; default 16000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Number>,
    /// The matches of one namespace's TrafficSplits in the proxies of a ServiceAccount of another namespace; default 250000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign_matches: Option<Number>,
    /// The ports of one namespace's Services in the proxies of a ServiceAccount of another namespace; default 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign_ports: Option<Number>,
}

impl BudgetSettings {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How access is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AccessSettings {
    /// The mode of namespaces without the label smidge.mesh/access: enforce (the default) allows what TrafficTargets
    /// allow, audit allows everything and logs what they do not allow, permissive ignores them and allows everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Setting<AccessMode>>,
}

/// Whether callers must use mTLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MtlsSettings {
    /// The mode of namespaces without the label smidge.mesh/mtls: strict (the default) refuses plaintext callers,
    /// permissive lets them in without an identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Setting<MtlsMode>>,
}

/// Which pods are taken into the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InjectionSettings {
    /// Whether pods that could leave the mesh are refused (true), or admitted with a warning (false, the default): those
    /// with the capability NET_ADMIN, SYS_ADMIN or ALL, privileged ones, those whose containers see each other's or the
    /// node's processes, and those that exclude inbound ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

impl InjectionSettings {
    fn is_empty(&self) -> bool {
        self.strict.is_none()
    }
}

impl AccessSettings {
    fn is_empty(&self) -> bool {
        self.mode.is_none()
    }
}

impl MtlsSettings {
    fn is_empty(&self) -> bool {
        self.mode.is_none()
    }
}

impl Kind for MeshConfigSpec {
    type Scope = ClusterResourceScope;

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "MeshConfig";
    const PLURAL: &'static str = "meshconfigs";
    const SHORT_NAME: Option<&'static str> = None;
    const DESCRIPTION: &'static str = "Settings of the whole mesh. There is one object, called default; without it, every setting has its default.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] =
        &[("Access", "The access mode.", ".spec.access.mode"), ("mTLS", "The mTLS mode.", ".spec.mtls.mode")];
}

/// How access to a pod is decided. In `MeshConfig` and, by label, for a namespace.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum AccessMode {
    // No doc comments on variants: schemars would turn the enum into a `oneOf`, which is not structural.
    #[allow(missing_docs)]
    #[default]
    Enforce,
    #[allow(missing_docs)]
    Audit,
    #[allow(missing_docs)]
    Permissive,
}

/// Whether callers must use mTLS. In `MeshConfig` and, by label, for a namespace.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum MtlsMode {
    #[allow(missing_docs)]
    #[default]
    Strict,
    #[allow(missing_docs)]
    Permissive,
}

/// Where the match of a `pathRegex` must end.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum PathRegexEnd {
    #[allow(missing_docs)]
    #[default]
    Open,
    #[allow(missing_docs)]
    Closed,
}

/// A word that is none of a setting's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct UnknownWord {
    /// The words that the setting knows.
    pub expected: &'static str,
    /// What was found.
    pub found: String,
}

impl FromStr for AccessMode {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "enforce" => Ok(Self::Enforce),
            "audit" => Ok(Self::Audit),
            "permissive" => Ok(Self::Permissive),
            _ => Err(UnknownWord { expected: "enforce, audit or permissive", found: word.into() }),
        }
    }
}

impl FromStr for MtlsMode {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "strict" => Ok(Self::Strict),
            "permissive" => Ok(Self::Permissive),
            _ => Err(UnknownWord { expected: "strict or permissive", found: word.into() }),
        }
    }
}

impl fmt::Display for AccessMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Permissive => "permissive",
        })
    }
}

impl fmt::Display for MtlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Permissive => "permissive",
        })
    }
}
