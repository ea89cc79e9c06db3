//! Kubernetes wire types of Smidge: the SMI kinds by API version, and Smidge's own.
//!
//! Pure. Turns objects of the API server or of a file into types, and the types into the custom resource definitions
//! that the chart installs. Called by `smidge`'s sources and `cli::crds`; `smidge-lower` gives the types their
//! meaning.
//!
//! Each kind has one hub type, that of its storage version, re-exported flat (`split::TrafficSplit`). Reading is
//! lenient on purpose: an object that is invalid for the mesh must still be readable, so that only this object loses
//! its effect and its owner is notified; an invalid value stays representable ([`Number`], [`Headers`], [`Setting`]).
//! The API server accepts less: the schemas validate what SMI's published definitions validate.
//!
//! Does not contain a client, an async runtime, or a decision on what the objects mean.
//!
//! [`Headers`]: specs::Headers

pub mod access;
pub mod config;
pub mod conversion;
pub mod definitions;
pub mod kinds;
pub mod labels;
pub mod number;
pub mod object;
pub mod quantity;
pub mod redirected;
mod schema;
pub mod setting;
pub mod specs;
pub mod split;
pub mod status;
pub mod type_error;

pub use definitions::{all, to_yaml};
pub use kinds::KindInfo;
pub use number::Number;
pub use object::{Kind, Object};
pub use setting::Setting;
pub use status::Status;

use kinds::Shape;

/// Versions of a kind that SMI has had since its first version.
const ALL: &[&str] = &["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"];
/// Versions of a kind that only SMI's latest version has.
const LAST: &[&str] = &["v1alpha4"];

/// Every kind, with its served versions and the way in which they differ: one row a kind.
pub const KINDS: &[KindInfo] = &[
    KindInfo::of::<access::TrafficTargetSpec>(ALL, Some(Shape::Target)),
    KindInfo::of::<access::IdentityBindingSpec>(LAST, None),
    KindInfo::of::<specs::HttpRouteGroupSpec>(ALL, Some(Shape::Http)),
    KindInfo::of::<specs::TcpRouteSpec>(ALL, Some(Shape::Ports)),
    KindInfo::of::<specs::UdpRouteSpec>(LAST, Some(Shape::Ports)),
    KindInfo::of::<split::TrafficSplitSpec>(ALL, Some(Shape::Split)),
    KindInfo::of::<config::MeshConfigSpec>(&["v1alpha1"], None),
    KindInfo::of::<config::ExternalWorkloadSpec>(&["v1alpha1"], None),
    KindInfo::of::<config::MetricsPolicySpec>(&["v1alpha1"], None),
];
