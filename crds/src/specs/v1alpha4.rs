//! `specs.smi-spec.io/v1alpha4`: `HTTPRouteGroup`, `TCPRoute`, `UDPRoute`. Served and stored.

use kube_core::NamespaceResourceScope;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Headers;
use crate::number::Number;
use crate::object::{Kind, Object, or_default};

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
pub struct HttpRouteGroupSpec {
    /// The matches. A request belongs to the group if it belongs to one of them.
    #[serde(deserialize_with = "or_default")]
    pub matches: Vec<HttpMatch>,
}

/// HTTP requests that meet all of the conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
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
pub struct TcpRouteSpec {
    /// The connections.
    #[serde(deserialize_with = "or_default")]
    pub matches: PortMatch,
}

/// The ports of a `UDPRoute`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UdpRouteSpec {
    /// The datagrams.
    #[serde(deserialize_with = "or_default")]
    pub matches: PortMatch,
}

/// Traffic to some ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PortMatch {
    /// A name, which nothing refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The pods' ports; every port if empty.
    #[serde(deserialize_with = "or_default")]
    #[schemars(with = "Vec<i64>")]
    pub ports: Vec<Number>,
}

impl Kind for HttpRouteGroupSpec {
    type Scope = NamespaceResourceScope;

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

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "UDPRoute";
    const PLURAL: &'static str = "udproutes";
    const SHORT_NAME: Option<&'static str> = Some("ur");
    const DESCRIPTION: &'static str = "Describes UDP traffic, for TrafficTargets to refer to.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[];
}
