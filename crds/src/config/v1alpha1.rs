//! `smidge.mesh/v1alpha1`: `MeshConfig`. Served and stored.

use std::{fmt, str::FromStr};

use kube_core::ClusterResourceScope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    number::Number,
    object::{Kind, Object, or_default},
    setting::Setting,
};

/// Name of the version.
pub const VERSION: &str = "v1alpha1";

/// Settings of the whole mesh.
pub type MeshConfig = Object<MeshConfigSpec>;

/// Specification of a `MeshConfig`: the settings of the mesh. Each of them has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshConfigSpec {
    /// Settings of access control: whether callers need a TrafficTarget.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "AccessSettings::is_empty")]
    pub access: AccessSettings,
    /// Settings of mTLS between callers and the pods of the mesh.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "MtlsSettings::is_empty")]
    pub mtls: MtlsSettings,
    /// Settings of sidecar injection.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "InjectionSettings::is_empty")]
    pub injection: InjectionSettings,
    /// The end of the match of a pathRegex: open (the default, as SMI specifies) matches every path of which the
    /// expression matches the beginning, closed (as in Open Service Mesh) requires that the expression matches the
    /// whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex_end: Option<Setting<PathRegexEnd>>,
    /// The part of a header's value that an expression in an HTTPRouteGroup must match: full (the default) is the whole
    /// value, partial (as in Open Service Mesh) is any part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_regex_match: Option<Setting<HeaderRegexMatch>>,
    /// The protocol of ports of Services that declare none, by appProtocol or the prefix of their name, and for which
    /// no TrafficTarget or TrafficSplit decides: detect (the default) reads the first bytes of each connection, http
    /// and tcp read all of them as that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undeclared_ports: Option<Setting<UndeclaredPorts>>,
    /// Limits of the head of HTTP requests and responses, in the proxies of callers and of servers. A change of them
    /// ends the connections of every proxy.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "LimitSettings::is_empty")]
    pub limits: LimitSettings,
    /// True to name the caller of each HTTP request to the application: the workload's proxy sets the header
    /// x-smidge-caller to the SPIFFE ID of the caller's certificate. False (the default) not to. In both cases no
    /// caller can set the header, and it is absent for callers in plaintext. A change of it ends the connections of
    /// every proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_header: Option<bool>,
    /// Limits of the cost of one namespace's objects. A unit of cost is about one instruction of a compiled regular
    /// expression. An object that exceeds a budget has no effect; among several objects the oldest are kept.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BudgetSettings::is_empty")]
    pub budgets: BudgetSettings,
}

/// Limits of the head of HTTP requests and responses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LimitSettings {
    /// The maximum number of headers, from 1 to 100000. Defaults to 1000. A request with more is answered with 431, a
    /// response with more is replaced by 502.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Number>,
    /// The maximum size of the head in KiB, from 1 to 8192. Defaults to 96. A larger request is answered with 431, a
    /// larger response is replaced by 502.
    #[serde(rename = "headKiB", skip_serializing_if = "Option::is_none")]
    pub head_kib: Option<Number>,
}

impl LimitSettings {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits of what one namespace's objects may cost the operator and the proxies. A mesh of thousands of Services
/// reaches none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct BudgetSettings {
    /// The maximum cost of one HTTPRouteGroup, TrafficTarget or IdentityBinding, in units. Defaults to 1000000. A
    /// match costs 400 units, plus 200 for each method, 400 for each header, and the size of its compiled regular
    /// expressions; a source costs 500 units for each HTTPRouteGroup, or match by name, that the TrafficTarget uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Number>,
    /// The maximum cost of all TrafficTargets with the same ServiceAccount as destination, times the number of ports
    /// of its Services or of its pods, whichever is greater, in units. Defaults to 2000000. The matches of an
    /// HTTPRouteGroup count once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Number>,
    /// The maximum cost of the matches of one TrafficSplit, times the number of HTTP ports of its root, in units.
    /// Defaults to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Number>,
    /// The maximum cost of all TrafficTargets of a namespace, in units, and likewise of the matches of all its
    /// TrafficSplits. Defaults to 16000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Number>,
    /// The maximum cost of the matches of one namespace's TrafficSplits in the proxies of a ServiceAccount of another
    /// namespace, in units. Defaults to 250000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign_matches: Option<Number>,
    /// The maximum number of ports of one namespace's Services in the proxies of a ServiceAccount of another namespace.
    /// Defaults to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign_ports: Option<Number>,
}

impl BudgetSettings {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings of access control: whether callers need a TrafficTarget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AccessSettings {
    /// The access mode of namespaces without the label smidge.mesh/access: enforce (the default) allows only calls
    /// that a TrafficTarget allows, audit allows all calls and logs those that no TrafficTarget allows, permissive
    /// allows all calls and ignores TrafficTargets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Setting<AccessMode>>,
}

/// Settings of mTLS between callers and the pods of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MtlsSettings {
    /// The mTLS mode of namespaces without the label smidge.mesh/mtls: strict (the default) refuses plaintext callers,
    /// permissive accepts them without an identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Setting<MtlsMode>>,
}

/// Settings of sidecar injection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InjectionSettings {
    /// True to refuse pods that can leave the mesh, false (the default) to admit them with a warning. These are pods
    /// with the capability NET_ADMIN, SYS_ADMIN or ALL, privileged pods, pods whose containers see each other's or
    /// the node's processes, and pods that exclude inbound ports.
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

/// Access mode of a pod, which a `MeshConfig` or a label of the namespace sets.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum AccessMode {
    // Variants have no doc comments: with them schemars turns the enum into a `oneOf`, which is not structural.
    #[allow(missing_docs)]
    #[default]
    Enforce,
    #[allow(missing_docs)]
    Audit,
    #[allow(missing_docs)]
    Permissive,
}

/// mTLS mode of a pod, which a `MeshConfig` or a label of the namespace sets.
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

/// End of the match of a `pathRegex`: open or closed.
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

/// Part of a header's value that an expression must match: full or partial.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum HeaderRegexMatch {
    #[allow(missing_docs)]
    #[default]
    Full,
    #[allow(missing_docs)]
    Partial,
}

/// Protocol of ports that declare none: detect, http or tcp.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum UndeclaredPorts {
    #[allow(missing_docs)]
    #[default]
    Detect,
    #[allow(missing_docs)]
    Http,
    #[allow(missing_docs)]
    Tcp,
}

/// Error of reading a word that is not a value of the setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct UnknownWord {
    /// The values of the setting.
    pub expected: &'static str,
    /// The word that was found.
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
