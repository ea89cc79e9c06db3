//! `specs.smi-spec.io/v1alpha4`: `HTTPRouteGroup`, `TCPRoute`, `UDPRoute`. Served and stored.

use kube_core::NamespaceResourceScope;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Headers;
use crate::{
    number::Number,
    object::{Kind, Object, or_default},
};

/// Name of the version.
pub const VERSION: &str = "v1alpha4";

/// Group of matches that describe HTTP requests.
pub type HttpRouteGroup = Object<HttpRouteGroupSpec>;
/// Description of TCP connections.
pub type TcpRoute = Object<TcpRouteSpec>;
/// Description of UDP traffic.
pub type UdpRoute = Object<UdpRouteSpec>;

/// Specification of an `HTTPRouteGroup`: its matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HttpRouteGroupSpec {
    /// The matches of the group. A request belongs to the group if it meets at least one of them.
    #[serde(deserialize_with = "or_default")]
    pub matches: Vec<HttpMatch>,
}

/// Conditions on an HTTP request. The request must meet all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpMatch {
    /// The name by which the rules of TrafficTargets refer to this match.
    pub name: String,
    /// The regular expression (RE2 syntax) that the path must match, anchored at the start of the path. The query
    /// string is not part of the path. Defaults to any path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// The HTTP methods of the request, or * for every method. Defaults to every method.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "methods")]
    pub methods: Option<Vec<String>>,
    /// The header names, each with the regular expression that the whole value must match: a list of maps with one
    /// entry each, or one map. All of them must match.
    #[serde(skip_serializing_if = "Headers::is_absent")]
    pub headers: Headers,
}

/// Schema with the words of the published definition; the type accepts any word, as a stored object may be older than
/// the definition.
fn methods(_: &mut SchemaGenerator) -> Schema {
    let words = ["*", "GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    json_schema!({"type": "array", "items": {"type": "string", "enum": words}})
}

/// Specification of a `TCPRoute`: its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TcpRouteSpec {
    /// The TCP connections that the route describes.
    #[serde(deserialize_with = "or_default")]
    pub matches: PortMatch,
}

/// Specification of a `UDPRoute`: its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UdpRouteSpec {
    /// The UDP datagrams that the route describes.
    #[serde(deserialize_with = "or_default")]
    pub matches: PortMatch,
}

/// Match of traffic by port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PortMatch {
    /// The name of the match. No other object refers to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port numbers of the pods, not of the Service. An empty list means every port.
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
