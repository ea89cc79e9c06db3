//! `specs.smi-spec.io/v1alpha4`: `HTTPRouteGroup`, `TCPRoute`, `UDPRoute`. Served and stored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::NamespaceResourceScope;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Headers;
use crate::number::Number;
use crate::object::{Kind, Object, Written, or_default};
use crate::status::{self, Status};

/// The version's name.
pub const VERSION: &str = "v1alpha4";

/// Describes HTTP requests.
pub type HttpRouteGroup = Object<HttpRouteGroupSpec>;
/// Describes TCP connections.
pub type TcpRoute = Object<TcpRouteSpec>;
/// Describes UDP traffic.
pub type UdpRoute = Object<UdpRouteSpec>;

/// The matches of an `HTTPRouteGroup`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["matches"]))]
pub struct HttpRouteGroupSpec {
    /// The matches. A request belongs to the group if it belongs to one of them.
    #[serde(deserialize_with = "or_default")]
    pub matches: Vec<HttpMatch>,
}

/// HTTP requests that meet all of the conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["name"]))]
pub struct HttpMatch {
    /// The name by which a TrafficTarget's rule refers to this match.
    pub name: String,
    /// A regular expression (RE2) for the path, anchored at its start; any path if absent. The query string is no
    /// part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// The methods, or * for all; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "methods")]
    pub methods: Option<Vec<String>>,
    /// Header names with the regular expression that the whole value must match: a list of maps with one entry each,
    /// or one map. All of them must match.
    #[serde(skip_serializing_if = "Headers::is_absent")]
    pub headers: Headers,
}

/// The words of the published definition; the type takes any, as what is stored may be older than the definition.
fn methods(_: &mut SchemaGenerator) -> Schema {
    let words = ["*", "GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    json_schema!({"type": "array", "items": {"type": "string", "enum": words}})
}

/// The ports of a `TCPRoute`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["matches"]))]
pub struct TcpRouteSpec {
    /// The connections.
    #[serde(deserialize_with = "or_default")]
    pub matches: PortMatch,
}

/// The ports of a `UDPRoute`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["matches"]))]
pub struct UdpRouteSpec {
    /// The datagrams.
    #[serde(deserialize_with = "or_default")]
    pub matches: PortMatch,
}

/// Traffic to some ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["ports"]))]
pub struct PortMatch {
    /// A name, which nothing refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The pods' ports; every port if empty.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Vec<i64>")]
    pub ports: Vec<Number>,
}

/// An `HTTPRouteGroup` as it stands on the wire. Manifests of older versions, and examples of the specification for
/// this one, have `matches` beside `metadata`; the definition keeps them there, and the hub has them in `spec`.
#[derive(Deserialize, JsonSchema)]
pub struct WrittenHttpRouteGroup {
    #[serde(default)]
    #[schemars(skip)]
    metadata: ObjectMeta,
    /// What the owner wants.
    #[serde(default)]
    spec: Option<HttpRouteGroupSpec>,
    /// The matches, where versions before v1alpha3 have them; counts if there is no spec.
    #[serde(default)]
    matches: Option<Vec<HttpMatch>>,
    /// What the mesh made of it.
    #[serde(default, deserialize_with = "status::or_none")]
    status: Option<Status>,
}

impl From<WrittenHttpRouteGroup> for HttpRouteGroup {
    fn from(written: WrittenHttpRouteGroup) -> Self {
        let WrittenHttpRouteGroup { metadata, spec, matches, status } = written;
        let spec = spec.unwrap_or_else(|| HttpRouteGroupSpec { matches: matches.unwrap_or_default() });
        Self { metadata, spec, status }
    }
}

impl Kind for HttpRouteGroupSpec {
    type Scope = NamespaceResourceScope;
    type Written = WrittenHttpRouteGroup;

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "HTTPRouteGroup";
    const PLURAL: &'static str = "httproutegroups";
    const SHORT_NAME: Option<&'static str> = Some("htr");
    const DESCRIPTION: &'static str =
        "Describes HTTP requests, for TrafficTargets and TrafficSplits to refer to.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[];
}

impl Kind for TcpRouteSpec {
    type Scope = NamespaceResourceScope;
    type Written = Written<Self>;

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "TCPRoute";
    const PLURAL: &'static str = "tcproutes";
    const SHORT_NAME: Option<&'static str> = Some("tr");
    const DESCRIPTION: &'static str = "Describes TCP connections, for TrafficTargets to refer to.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[];
}

impl Kind for UdpRouteSpec {
    type Scope = NamespaceResourceScope;
    type Written = Written<Self>;

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "UDPRoute";
    const PLURAL: &'static str = "udproutes";
    const SHORT_NAME: Option<&'static str> = Some("ur");
    const DESCRIPTION: &'static str = "Describes UDP traffic, for TrafficTargets to refer to.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[];
}
