//! The kinds that this crate defines: one row a kind, by which conversion and the definitions go.
//!
//! Sits beside the wire types and under everything that asks what is served. The operator's own table (`smidge::kinds`) says
//! what is done with the objects. Does not say what an object means.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::{
    access::{IdentityBindingSpec, TrafficTargetSpec},
    config::MeshConfigSpec,
    conversion::Shape,
    definitions::{self, Error},
    object::Kind,
    specs::{HttpRouteGroupSpec, TcpRouteSpec, UdpRouteSpec},
    split::TrafficSplitSpec,
};

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
    /// Makes the definition.
    pub(crate) definition: fn() -> Result<CustomResourceDefinition, Error>,
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
    KindInfo { definition: definitions::mesh_config, ..KindInfo::of::<MeshConfigSpec>(&["v1alpha1"], None) },
];

impl KindInfo {
    const fn of<Spec: Kind>(versions: &'static [&'static str], shape: Option<Shape>) -> Self {
        let definition = definitions::definition::<Spec>;
        Self { group: Spec::GROUP, kind: Spec::KIND, versions, shape, definition }
    }

    /// The kind of that group and name.
    pub fn find(group: &str, kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|info| info.kind == kind && info.group == group)
    }
}
