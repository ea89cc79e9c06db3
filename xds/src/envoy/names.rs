//! The names of resources on the wire, the ports of the proxy, and the server name that marks traffic of the mesh.
//!
//! The one place where they are spelled, for builders, views and `render` alike. `bootstrap` shares the ports.

use std::net::{IpAddr, SocketAddr};

use crate::mesh::{id::ServiceId, route::Backend, service::Protocol};

/// Stands for every port of a workload that is not named: no port has this number.
pub const OTHER_PORTS: u16 = 0;

/// The virtual listener that every outbound connection reaches first.
pub const OUTBOUND: &str = "outbound";
/// The virtual listener of the inbound side, and the cluster behind it.
pub const INBOUND: &str = "inbound";
/// The cluster of destinations outside the mesh.
pub const PASSTHROUGH: &str = "passthrough";
/// The cluster without endpoints.
pub const BLACKHOLE: &str = "blackhole";
/// The secret with a proxy's own certificate. Never in the pool.
pub const IDENTITY: &str = "identity";
/// The validation context by which servers judge clients.
pub const TRUST: &str = "trust";
/// Matches the server names of mesh traffic.
pub const SNI_SUFFIX: &str = "*.smidge";

/// The cluster of a Service's port, its endpoints, and the route that leads to it.
pub fn service_port(service: &ServiceId, port: u16) -> String {
    format!("{}/{}/{port}", service.namespace, service.name)
}

/// The listener of one address and port that callers dial.
pub fn outbound_listener(address: IpAddr, port: u16) -> String {
    format!("{OUTBOUND}/{}", SocketAddr::new(address, port))
}

/// The filter that sends the connections of a Service's TCP port on.
pub fn outbound_filter(service: &ServiceId, port: u16) -> String {
    format!("{OUTBOUND}/{}", service_port(service, port))
}

/// The filter that judges the callers of an inbound port.
pub fn inbound_filter(port: u16, protocol: Protocol) -> String {
    match protocol {
        Protocol::Http => format!("{INBOUND}/{port}/http"),
        Protocol::Tcp => format!("{INBOUND}/{port}/tcp"),
    }
}

/// The filter that lets the plaintext callers of a TCP port through to the workload, or not.
pub fn plain_filter(port: u16) -> String {
    format!("{INBOUND}/{port}/plain")
}

/// The cluster of a headless Service's port whose one endpoint is the address that was dialled.
pub fn dialled(service: &ServiceId, port: u16) -> String {
    format!("{}/dialled", service_port(service, port))
}

/// The cluster that a Service's own port sends a backend's share to.
pub fn backend(service: &ServiceId, port: u16, exact: bool, backend: &Backend) -> String {
    if exact && *service == backend.service {
        dialled(service, port)
    } else {
        service_port(&backend.service, backend.port(port))
    }
}

/// The validation context by which clients judge the servers of a Service.
pub fn servers(service: &ServiceId) -> String {
    format!("servers/{service}")
}

/// The validation context by which a TCP port judges clients.
pub fn clients(port: u16) -> String {
    format!("clients/{port}")
}

/// The server name of a connection inside the mesh.
pub fn sni(service: &ServiceId, port: u16) -> String {
    format!("{port}.{}.{}.smidge", service.name, service.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_addresses_of_both_families_apart() {
        assert_eq!(outbound_listener("10.0.0.1".parse().unwrap(), 80), "outbound/10.0.0.1:80");
        assert_eq!(outbound_listener("fd00::1".parse().unwrap(), 80), "outbound/[fd00::1]:80");
    }
}
