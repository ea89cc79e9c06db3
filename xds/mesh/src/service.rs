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
    /// The Service's own endpoints in the mesh, sorted.
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
}

impl Protocol {
    /// Returns the protocol of a port: by its `appProtocol`, else by the prefix of its name up to the first `-`, else
    /// [`Protocol::Tcp`].
    pub fn of_port(app_protocol: Option<&str>, name: Option<&str>) -> Self {
        if let Some(app_protocol) = app_protocol {
            let is_http = matches!(
                app_protocol.to_ascii_lowercase().as_str(),
                "http"
                    | "http1"
                    | "http2"
                    | "h2c"
                    | "grpc"
                    | "grpc-web"
                    | "ws"
                    | "kubernetes.io/h2c"
                    | "kubernetes.io/ws"
            );
            return if is_http { Self::Http } else { Self::Tcp };
        }
        let prefix = name.and_then(|name| name.split('-').next()).unwrap_or_default();
        if matches!(prefix, "http" | "http1" | "http2" | "h2c" | "grpc" | "ws") {
            Self::Http
        } else {
            Self::Tcp
        }
    }
}

/// Endpoint of a Service's port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// The instance that serves, which includes its cluster.
    pub proxy: ProxyId,
    /// The address of the instance.
    pub address: IpAddr,
    /// The port on the instance.
    pub port: u16,
    /// The network in which the address is valid; empty if there is only one network.
    pub network: String,
    /// The locality of the instance, for locality-aware load balancing: `region/zone`, empty if unknown.
    pub locality: String,
}
