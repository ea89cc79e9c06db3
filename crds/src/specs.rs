//! `specs.smi-spec.io`: descriptions of traffic to which other objects refer.
//!
//! Has one module for each API version; the types of the storage version are the hub, and are re-exported here.

pub mod headers;
pub mod v1alpha4;

pub use headers::{Headers, MalformedHeaders};
pub use v1alpha4::{
    HttpMatch, HttpRouteGroup, HttpRouteGroupSpec, PortMatch, TcpRoute, TcpRouteSpec, UdpRoute, UdpRouteSpec,
};

use crate::object::Kind as _;

/// The API group.
pub const GROUP: &str = "specs.smi-spec.io";

/// The kinds that a rule of a TrafficTarget may refer to.
pub const RULE_KINDS: [&str; 3] = [HttpRouteGroupSpec::KIND, TcpRouteSpec::KIND, UdpRouteSpec::KIND];

/// The kinds that the matches of a TrafficSplit may refer to.
pub const MATCH_KINDS: [&str; 1] = [HttpRouteGroupSpec::KIND];
