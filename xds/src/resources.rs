//! Turns a mesh into the pool of Envoy resources that all proxies share, each built and encoded once.
//!
//! Called by `operator::publish` for every new mesh; feeds `view` and, through it, `delta::Session`.
//! Holds no secret: leaf keys travel on their own stream only (`server`).

use std::{fmt, sync::Arc};

use serde::Serialize;

/// The types of resources that are served, in the order in which additions are sent
/// (xDS protocol, "Eventual consistency considerations"). Removals go in reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// `envoy.config.cluster.v3.Cluster`
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`
    Endpoints,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`
    Secret,
    /// `envoy.config.listener.v3.Listener`
    Listener,
    /// `envoy.config.core.v3.TypedExtensionConfig`
    Extension,
    /// `envoy.config.route.v3.RouteConfiguration`
    Route,
}

impl Kind {
    /// Every kind, in the order of additions.
    pub const ALL: [Self; 6] =
        [Self::Cluster, Self::Endpoints, Self::Secret, Self::Listener, Self::Extension, Self::Route];

    /// The type URL on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The kind with this type URL, if it is one that is served.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Whether a client gets all names of its view without naming them (CDS and LDS).
    pub fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

/// The version of a resource: a digest of its content, the same on every replica and after every restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// A version from its text, as a client sends it back.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a proxy that says it holds `held` needs nothing sent to have `self`.
    ///
    /// A version may end in `+<drain>`: a mark in a listener that is changed only to end connections which the policy
    /// no longer allows. It means nothing to a proxy that connects anew, as whoever renewed it was sent it then.
    pub fn is_held_as(&self, held: &Self) -> bool {
        self.base() == held.base()
    }

    fn base(&self) -> &str {
        self.0.split_once('+').map_or(&self.0, |(base, _)| base)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One resource, encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its type.
    pub kind: Kind,
    /// Its name on the wire. Two resources of the pool may share it (the inbound side of two classes); no view has both.
    pub name: Arc<str>,
    /// The digest of `body`.
    pub version: Version,
    /// The encoded message, the value of the `Any`. Cheap to clone.
    pub body: prost::bytes::Bytes,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the body: a secret has this type as well.
        f.debug_struct("Resource")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
