//! `specs.smi-spec.io`: descriptions of traffic to which other objects refer.
//!
//! Has one module for each API version; the types of the storage version are the hub, and are re-exported here.

pub mod headers;
pub mod v1alpha4;

pub use headers::{Headers, MalformedHeaders};
pub use v1alpha4::{
    HttpMatch, HttpRouteGroup, HttpRouteGroupSpec, PortMatch, TcpRoute, TcpRouteSpec, UdpRoute, UdpRouteSpec,
};

/// The API group.
pub const GROUP: &str = "specs.smi-spec.io";
