//! Service as callers see it: addresses, ports, endpoints and routes.
//!
//! Turned into listeners, routes, clusters and endpoints of the shared pool. Does not depend on the caller.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::Serialize;

use super::{
    id::{ProxyId, ServiceId, SpiffeId},
    route::Route,
};

/// Service of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The namespace and name of the Service.
    pub id: ServiceId,
    /// The ports in the mesh, by the Service's port number, without UDP ports.
    pub ports: BTreeMap<u16, ServicePort>,
    /// The identities that may serve the Service: a client refuses any other server.
    pub identities: BTreeSet<SpiffeId>,
    /// True while the Service joins the mesh or leaves it, pod by pod: nothing is refused, and some of its pods are called in
    /// plaintext. A proxy that does not have its listeners yet sends calls on as they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_joining: bool,
}

/// Port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// The protocol of the port.
    pub protocol: Protocol,
    /// The addresses that callers dial, with this port's number: the cluster addresses, or for a headless Service
    /// those of its own pods. An address and port belong to one Service only; `lower` chooses the oldest.
    pub addresses: BTreeSet<IpAddr>,
    /// True if a call goes to exactly the address that was dialled, as with a headless Service, instead of to any of
    /// the endpoints.
    pub exact: bool,
    /// The servers behind the port, ready or not. They decide which callers see it, so that a rollout changes no view.
    pub servers: BTreeSet<Server>,
    /// The Service's own endpoints, sorted: those in the mesh, and those that callers reach in plaintext.
    pub endpoints: Vec<Endpoint>,
    /// The route of traffic to this port.
    pub route: Route,
}

/// Identity behind a Service's port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Server {
    /// The identity of the server.
    pub identity: SpiffeId,
    /// The port on the instance, to which grants refer.
    pub port: u16,
}

/// Protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, HTTP/2 or gRPC.
    Http,
    /// Any bytes.
    Tcp,
    /// HTTP or any other bytes: the proxies detect it by the first bytes of each connection.
    Detect,
}

impl Protocol {
    /// Returns the protocol that a port declares, by its `appProtocol`, else by the prefix of its name up to the first
    /// `-`. An `appProtocol` that is not known means TCP; a prefix that is not known declares nothing.
    pub fn declared(app_protocol: Option<&str>, name: Option<&str>) -> Option<Self> {
        if let Some(app_protocol) = app_protocol {
            let word = app_protocol.to_ascii_lowercase();
            let is_http = HTTP.contains(&word.as_str()) || HTTP_APP_PROTOCOLS.contains(&word.as_str());
            return Some(if is_http { Self::Http } else { Self::Tcp });
        }
        let prefix = name.and_then(|name| name.split('-').next()).unwrap_or_default();
        if HTTP.contains(&prefix) { Some(Self::Http) } else { TCP.contains(&prefix).then_some(Self::Tcp) }
    }

    /// Returns the name of the protocol in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Tcp => "TCP",
            Self::Detect => "a protocol that is detected",
        }
    }

    /// Returns true if calls over HTTP are read as HTTP.
    pub fn has_http(self) -> bool {
        self != Self::Tcp
    }

    /// Returns true if calls may be forwarded byte by byte.
    pub fn has_tcp(self) -> bool {
        self != Self::Http
    }
}

/// Words for HTTP, as an `appProtocol` and as the prefix of a port's name.
const HTTP: [&str; 6] = ["http", "http1", "http2", "h2c", "grpc", "ws"];

/// Further words for HTTP, as an `appProtocol`.
const HTTP_APP_PROTOCOLS: [&str; 3] = ["grpc-web", "kubernetes.io/h2c", "kubernetes.io/ws"];

/// Prefixes of the names of ports that are not HTTP: words of other meshes, TLS, and protocols with a name of their own.
const TCP: [&str; 24] = [
    "tcp",
    "tls",
    "https",
    "amqp",
    "amqps",
    "cassandra",
    "cql",
    "dns",
    "ftp",
    "imap",
    "kafka",
    "ldap",
    "ldaps",
    "mongo",
    "mongodb",
    "mqtt",
    "mysql",
    "nats",
    "pop3",
    "postgres",
    "postgresql",
    "redis",
    "smtp",
    "ssh",
];

/// Endpoint of a Service's port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// The instance that serves, which includes its cluster; it may be in the mesh or not.
    pub proxy: ProxyId,
    /// The address of the instance to which callers connect first.
    pub address: IpAddr,
    /// Further addresses of the instance, in the order in which callers try them: those of the other family.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<IpAddr>,
    /// The port on the instance.
    pub port: u16,
    /// The network in which the address is valid; empty if there is only one network.
    pub network: String,
    /// The locality of the instance, for locality-aware load balancing: `region/zone`, empty if unknown.
    pub locality: String,
    /// The transport by which callers connect.
    #[serde(skip_serializing_if = "Transport::is_mtls")]
    pub transport: Transport,
}

/// Transport by which callers connect to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// mTLS, to one of the Service's identities.
    #[default]
    Mtls,
    /// Plaintext: there is no proxy before the port.
    Plaintext,
}

impl Transport {
    /// Returns true for mTLS.
    pub fn is_mtls(&self) -> bool {
        *self == Self::Mtls
    }
}
