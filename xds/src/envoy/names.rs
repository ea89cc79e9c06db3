//! The names of resources on the wire, the ports of the proxy, and the server name that marks traffic of the mesh.
//!
//! The one place where they are written, for builders, views and `render` alike. `bootstrap` shares the ports.

use std::net::{IpAddr, SocketAddr};

use crate::mesh::{id::ServiceId, route::Backend};

/// Number that represents every port of a workload that is not named: no port has this number.
pub const OTHER_PORTS: u16 = 0;

/// The virtual listener that every outbound connection reaches first.
pub const OUTBOUND: &str = "outbound";
/// The virtual listener of the inbound side, and the cluster behind it.
pub const INBOUND: &str = "inbound";
/// The cluster of destinations outside the mesh.
pub const PASSTHROUGH: &str = "passthrough";
/// The cluster without endpoints.
pub const BLACKHOLE: &str = "blackhole";
/// The cluster of the collector of spans.
pub const TRACING: &str = "tracing";
/// The secret with a proxy's own certificate. Never in the pool.
pub const IDENTITY: &str = "identity";
/// The validation context by which servers verify clients.
pub const TRUST: &str = "trust";
/// The router of all requests that a workload sends to Services.
pub const OUTBOUND_ROUTER: &str = "outbound/router";
/// Pattern of the server names of mesh traffic.
pub const SNI_SUFFIX: &str = "*.smidge";

/// Returns the name of a Service port's cluster, of its endpoints, and of the route that leads to it.
pub fn service_port(service: &ServiceId, port: u16) -> String {
    format!("{}/{}/{port}", service.namespace, service.name)
}

/// Returns the name of the listener of one address and port that callers dial.
pub fn outbound_listener(address: IpAddr, port: u16) -> String {
    format!("{OUTBOUND}/{}", SocketAddr::new(address, port))
}

/// Returns the name of the filter that forwards the connections of a Service's TCP port.
pub fn outbound_filter(service: &ServiceId, port: u16) -> String {
    format!("{OUTBOUND}/{}", service_port(service, port))
}

/// Returns the name of the filter that authorises the requests to an inbound port.
pub fn inbound_http(port: u16) -> String {
    format!("{INBOUND}/{port}/http")
}

/// The filter that names the route of each request that a workload receives, where routes are measured.
pub const INBOUND_ROUTES: &str = "inbound/routes";

/// Returns the name of the filter that authorises the connections to an inbound port.
pub fn inbound_tcp(port: u16) -> String {
    format!("{INBOUND}/{port}/tcp")
}

/// Returns the name of the filter that lets the plaintext callers of a TCP port through to the workload, or not.
pub fn plain_filter(port: u16) -> String {
    format!("{INBOUND}/{port}/plain")
}

/// Returns the name of the cluster of a headless Service's port whose one endpoint is the address that was dialled.
pub fn dialled(service: &ServiceId, port: u16) -> String {
    format!("{}/dialled", service_port(service, port))
}

/// Returns the name of the cluster to which a Service's own port sends a backend's share.
pub fn backend(service: &ServiceId, port: u16, exact: bool, backend: &Backend) -> String {
    if exact && *service == backend.service {
        dialled(service, port)
    } else {
        service_port(&backend.service, backend.port(port))
    }
}

/// Returns the name of the validation context by which clients verify the servers of a Service.
pub fn servers(service: &ServiceId) -> String {
    format!("servers/{service}")
}

/// Returns the name of the validation context by which a TCP port verifies clients.
pub fn clients(port: u16) -> String {
    format!("clients/{port}")
}

/// Returns the server name of a connection inside the mesh.
pub fn sni(service: &ServiceId, port: u16) -> String {
    format!("{port}.{}.{}.smidge", service.name, service.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_distinguish_addresses_of_both_families() {
        assert_eq!(outbound_listener("10.0.0.1".parse().unwrap(), 80), "outbound/10.0.0.1:80");
        assert_eq!(outbound_listener("fd00::1".parse().unwrap(), 80), "outbound/[fd00::1]:80");
    }
}
