//! Table of the kinds that this crate defines, with one row for each kind, which conversion and the definitions use.
//!
//! Sits beside the wire types and under everything that needs the served versions. `smidge_lower::kinds` has a row
//! for each kind for the objects themselves. Does not define what an object means.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;

use crate::{
    access::{IdentityBindingSpec, TrafficTargetSpec},
    config::MeshConfigSpec,
    object::{Kind, Object, is_namespaced},
    schema,
    specs::{HttpRouteGroupSpec, TcpRouteSpec, UdpRouteSpec},
    split::TrafficSplitSpec,
};

/// Kinds whose versions differ, by the way in which they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `TrafficTarget`.
    Target,
    /// `HTTPRouteGroup`.
    Http,
    /// `TCPRoute` and `UDPRoute`.
    Ports,
    /// `TrafficSplit`.
    Split,
}

/// Kind on the wire.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// The API group.
    pub group: &'static str,
    /// The name of the kind.
    pub kind: &'static str,
    /// The versions that are served, newest first; the first one is stored.
    pub versions: &'static [&'static str],
    /// The differences between the versions, if there are any.
    pub(crate) shape: Option<Shape>,
    /// The plural, as in the API's paths.
    pub(crate) plural: &'static str,
    /// The short name for kubectl, if the kind has one.
    pub(crate) short_name: Option<&'static str>,
    /// The description of an object of the kind, for `kubectl explain`.
    pub(crate) description: &'static str,
    /// The columns that kubectl prints: name, description, path of a string.
    pub(crate) columns: &'static [(&'static str, &'static str, &'static str)],
    /// Returns true if the objects are namespaced.
    pub(crate) is_namespaced: fn() -> bool,
    /// Builds the schema of the spec.
    pub(crate) schema: fn() -> serde_json::Result<JSONSchemaProps>,
}

/// Versions of a kind that SMI has had since its first version.
const ALL: &[&str] = &["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"];
/// Versions of a kind that only SMI's latest version has.
const LAST: &[&str] = &["v1alpha4"];

/// Every kind.
pub const KINDS: &[KindInfo] = &[
    KindInfo::of::<TrafficTargetSpec>(ALL, Some(Shape::Target)),
    KindInfo::of::<IdentityBindingSpec>(LAST, None),
    KindInfo::of::<HttpRouteGroupSpec>(ALL, Some(Shape::Http)),
    KindInfo::of::<TcpRouteSpec>(ALL, Some(Shape::Ports)),
    KindInfo::of::<UdpRouteSpec>(LAST, Some(Shape::Ports)),
    KindInfo::of::<TrafficSplitSpec>(ALL, Some(Shape::Split)),
    KindInfo::of::<MeshConfigSpec>(&["v1alpha1"], None),
];

impl KindInfo {
    const fn of<Spec: Kind>(versions: &'static [&'static str], shape: Option<Shape>) -> Self {
        Self {
            group: Spec::GROUP,
            kind: Spec::KIND,
            versions,
            shape,
            plural: Spec::PLURAL,
            short_name: Spec::SHORT_NAME,
            description: Spec::DESCRIPTION,
            columns: Spec::COLUMNS,
            is_namespaced: is_namespaced::<Object<Spec>>,
            schema: schema::of::<Spec>,
        }
    }

    /// Returns the kind of that group and name.
    pub fn find(group: &str, kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|info| info.kind == kind && info.group == group)
    }
}
