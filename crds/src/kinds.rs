//! The kinds that this crate defines: one row a kind, by which conversion and the definitions go.
//!
//! Sits beside the wire types and under everything that asks what is served. `smidge_lower::kinds` has a row a
//! kind for the objects themselves. Does not say what an object means.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;

use crate::{
    access::{IdentityBindingSpec, TrafficTargetSpec},
    config::MeshConfigSpec,
    object::{Kind, Object, is_namespaced},
    schema,
    specs::{HttpRouteGroupSpec, TcpRouteSpec, UdpRouteSpec},
    split::TrafficSplitSpec,
};

/// How the versions of a kind differ.
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

/// A kind on the wire.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// The API group.
    pub group: &'static str,
    /// The kind's name.
    pub kind: &'static str,
    /// The versions that are served, newest first; the first one is stored.
    pub versions: &'static [&'static str],
    /// What differs between the versions, if anything does.
    pub(crate) shape: Option<Shape>,
    /// The plural, as in the API's paths.
    pub(crate) plural: &'static str,
    /// The short name for kubectl, if the kind has one.
    pub(crate) short_name: Option<&'static str>,
    /// What an object of the kind does.
    pub(crate) description: &'static str,
    /// Columns that kubectl prints: name, description, path of a string.
    pub(crate) columns: &'static [(&'static str, &'static str, &'static str)],
    /// Returns whether the objects are in namespaces.
    pub(crate) is_namespaced: fn() -> bool,
    /// Makes the schema of the spec.
    pub(crate) schema: fn() -> serde_json::Result<JSONSchemaProps>,
}

/// The versions of SMI that had a kind from the start.
const ALL: &[&str] = &["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"];
/// Those of a kind that came late.
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

    /// The kind of that group and name.
    pub fn find(group: &str, kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|info| info.kind == kind && info.group == group)
    }
}
