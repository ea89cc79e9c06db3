//! Row of a kind in [`KINDS`], for conversion and the definitions: its names, versions and schema.
//!
//! Sits beside the wire types and under everything that needs the served versions. `smidge_lower::kinds` has a row
//! for each kind for the objects themselves. Does not define what an object means.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;

use crate::{
    KINDS,
    object::{Kind, Object, is_namespaced},
    schema,
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

impl KindInfo {
    pub(crate) const fn of<Spec: Kind>(versions: &'static [&'static str], shape: Option<Shape>) -> Self {
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

    /// Returns true if the objects are namespaced.
    pub fn has_namespace(&self) -> bool {
        (self.is_namespaced)()
    }

    /// Returns the kind of that group and name.
    pub fn find(group: &str, kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|info| info.kind == kind && info.group == group)
    }
}
