//! `specs.smi-spec.io`: traffic, described so that other objects can refer to it.
//!
//! One module an API version; the storage version's types are the hub, re-exported here.

pub mod headers;
pub mod v1alpha4;

pub use headers::{Headers, MalformedHeaders};
pub use v1alpha4::{
    HttpMatch, HttpRouteGroup, HttpRouteGroupSpec, PortMatch, TcpRoute, TcpRouteSpec, UdpRoute, UdpRouteSpec,
};

/// The API group.
pub const GROUP: &str = "specs.smi-spec.io";
