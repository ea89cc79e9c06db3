//! Clusters: one for each port of a Service, and the three that every proxy has.
//!
//! A Service's cluster does not change with its endpoints, its identities or its callers: those come over EDS and SDS,
//! so that only a new port or a lost one adds or removes a cluster.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster, UpstreamConnectionOptions, circuit_breakers,
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy},
            },
            core::v3::{BindConfig, ExtraSourceAddress, Http2ProtocolOptions, TcpKeepalive},
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{UpstreamProtocolOptions, UseDownstreamHttpConfig},
        },
    },
    google::protobuf::Any,
};

use super::{names, request, tls, wire};
use crate::mesh::{id::ServiceId, settings::Settings};

/// The source of connections to the workload itself: the redirection lets these through, while a call that the workload
/// makes to its own address comes from that address and is redirected.
const INBOUND_SOURCE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(127, 0, 0, 6), Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// Builds the cluster of a Service's own endpoints at one of its ports, reached over mTLS unless an endpoint names another
/// transport.
pub fn service(service: &ServiceId, port: u16, settings: &Settings) -> Cluster {
    let name = names::service_port(service, port);
    Cluster {
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: wire::ads(),
            // One name for each cluster: Envoy does not request endpoints to which another cluster has subscribed, and
            // the second cluster would warm for 15 s.
            service_name: name.clone(),
        }),
        lb_policy: LbPolicy::LeastRequest as i32,
        transport_socket_matches: tls::other_sockets(),
        ..meshed(service, port, settings, cluster(&name, DiscoveryType::Eds))
    }
}

/// Builds the cluster of the pod that was dialled behind a headless Service, reached over mTLS. A member of a
/// StatefulSet is called by its own address because the others cannot replace it.
pub fn dialled(service: &ServiceId, port: u16, settings: &Settings) -> Cluster {
    let name = names::dialled(service, port);
    Cluster {
        lb_policy: LbPolicy::ClusterProvided as i32,
        ..meshed(service, port, settings, cluster(&name, DiscoveryType::OriginalDst))
    }
}

/// Adds the settings of every cluster of a Service.
fn meshed(service: &ServiceId, port: u16, settings: &Settings, base: Cluster) -> Cluster {
    Cluster {
        transport_socket: Some(tls::upstream(service, port)),
        typed_extension_protocol_options: same_protocol(settings),
        // An endpoint that vanished is found within minutes instead of hours, and a long-lived connection keeps its
        // entry in the tables of middleboxes.
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: wire::number(3),
                keepalive_time: wire::number(60),
                keepalive_interval: wire::number(10),
            }),
            ..UpstreamConnectionOptions::default()
        }),
        ..base
    }
}

/// Builds the cluster of the workload itself, at the address and port that its caller dialled.
pub fn inbound(settings: &Settings) -> Cluster {
    let (v4, v6) = INBOUND_SOURCE;
    Cluster {
        lb_policy: LbPolicy::ClusterProvided as i32,
        upstream_bind_config: Some(BindConfig {
            source_address: Some(wire::socket_address(IpAddr::V4(v4), 0)),
            extra_source_addresses: vec![ExtraSourceAddress {
                address: Some(wire::socket_address(IpAddr::V6(v6), 0)),
                socket_options: None,
            }],
            ..BindConfig::default()
        }),
        typed_extension_protocol_options: same_protocol(settings),
        ..cluster(names::INBOUND, DiscoveryType::OriginalDst)
    }
}

/// Builds the cluster of destinations outside the mesh, at the address that was dialled.
pub fn passthrough() -> Cluster {
    Cluster {
        lb_policy: LbPolicy::ClusterProvided as i32,
        ..cluster(names::PASSTHROUGH, DiscoveryType::OriginalDst)
    }
}

/// Builds the cluster without endpoints: a connection to it is closed.
pub fn blackhole() -> Cluster {
    cluster(names::BLACKHOLE, DiscoveryType::Static)
}

fn cluster(name: &str, discovery: DiscoveryType) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery as i32)),
        connect_timeout: wire::seconds(5),
        circuit_breakers: Some(no_limits()),
        ..Cluster::default()
    }
}

/// Lifts the limits: Envoy would refuse the 1,025th concurrent request; a mesh must carry what the workload carried
/// without it.
fn no_limits() -> CircuitBreakers {
    CircuitBreakers {
        thresholds: vec![circuit_breakers::Thresholds {
            max_connections: wire::number(u32::MAX),
            max_pending_requests: wire::number(u32::MAX),
            max_requests: wire::number(u32::MAX),
            max_retries: wire::number(1024),
            ..circuit_breakers::Thresholds::default()
        }],
        ..CircuitBreakers::default()
    }
}

/// Keeps HTTP/1 as HTTP/1 and HTTP/2 as HTTP/2. The map has one entry, so its bytes have one order.
fn same_protocol(settings: &Settings) -> HashMap<String, Any> {
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(
            UseDownstreamHttpConfig {
                http_protocol_options: Some(request::http1()),
                http2_protocol_options: Some(Http2ProtocolOptions::default()),
                ..UseDownstreamHttpConfig::default()
            },
        )),
        common_http_protocol_options: Some(request::response_limits(settings)),
        ..HttpProtocolOptions::default()
    };
    HashMap::from([(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
        wire::any(&options),
    )])
}
