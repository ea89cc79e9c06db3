//! A Service as callers see it: addresses, ports, endpoints, and where its requests go.
//!
//! Becomes listeners, routes, clusters and endpoints of the shared pool. Does not depend on who calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::Serialize;

use super::{
    id::{ProxyId, ServiceId, SpiffeId},
    route::Route,
};

/// A Service of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name.
    pub id: ServiceId,
    /// The ports in the mesh, by the Service's port number. UDP ports are not among them.
    pub ports: BTreeMap<u16, ServicePort>,
    /// The identities that may serve it: a client refuses any other server.
    pub identities: BTreeSet<SpiffeId>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The addresses that callers dial, with this port's number: the cluster addresses, or for a headless Service
    /// those of its own pods. An address and port belong to one Service only; the oldest won in `lower`.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether a call goes to the very address that was dialled, as with a headless Service, instead of to any of the
    /// endpoints.
    pub exact: bool,
    /// Who is behind the port, ready or not. Decides who may see it, so that a rollout changes nobody's view.
    pub servers: BTreeSet<Server>,
    /// The Service's own endpoints in the mesh, sorted.
    pub endpoints: Vec<Endpoint>,
    /// Where traffic to this port goes.
    pub route: Route,
}

/// An identity behind a Service's port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Server {
    /// Who.
    pub identity: SpiffeId,
    /// The port on the instance, which grants are about.
    pub port: u16,
}

/// How a port's bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, HTTP/2 or gRPC.
    Http,
    /// Any bytes.
    Tcp,
}

impl Protocol {
    /// Protocol of a port: by its `appProtocol`, then by the prefix of its name up to the first `-`, else [`Protocol::Tcp`].
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

/// One place where a Service's port is served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// The instance that serves; it names the cluster, too.
    pub proxy: ProxyId,
    /// Its address.
    pub address: IpAddr,
    /// The port on the instance.
    pub port: u16,
    /// The network that the address is valid in; the empty name is the only network there is.
    pub network: String,
    /// Where it runs, for locality-aware balancing: `region/zone`, empty when unknown.
    pub locality: String,
}
