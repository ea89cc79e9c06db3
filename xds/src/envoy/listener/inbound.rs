//! Builds the inbound listener of a class of workloads: mTLS, then authorisation of the caller, then the workload at
//! the port dialled.
//!
//! Grants are not in here (`rbac`, over ECDS). A chain's name carries its port's drain mark, the one thing that changes
//! a chain without changing what it does: Envoy then ends the chain's connections.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use envoy_types::pb::envoy::{
    config::{
        core::v3::TrafficDirection,
        listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, listener_filter},
    },
    extensions::filters::listener::{original_dst::v3::OriginalDst, tls_inspector::v3::TlsInspector},
};
use prost::{Message, Name};

use super::chain;
use crate::{
    envoy::{filter, names, tls, wire},
    mesh::{access::MtlsMode, proxy, service::Protocol, workload::Class},
};

/// Time limit of the detection of a caller's protocol, and again of its TLS handshake, in seconds: two exchanges and a
/// signature. A connection that is half open has no identity, blocks no other one, and takes 30 KB.
const HANDSHAKE: i64 = 5;

/// The drain mark of each TCP port that has one.
pub type Marks = BTreeMap<u16, String>;

/// Builds the listener of a class.
pub fn inbound(class: &Class, marks: &Marks) -> Listener {
    // The access mode is not in here: a switch of it must end no connection.
    let Class { identity: _, ports, access: _, mtls } = class;
    let permissive = *mtls == MtlsMode::Permissive;
    let mut filter_chains = Vec::new();
    for (port, protocol) in ports {
        // A caller must not reach the proxy by a port that a workload declares.
        if !proxy::PORTS.contains(port) {
            filter_chains.push(meshed(*port, *protocol, *mtls, marks.get(port)));
            if permissive {
                filter_chains.push(plain(*port, *protocol, marks.get(port)));
            }
        }
    }
    // Added even where no other chain would match them: Envoy refuses a listener without any chain.
    filter_chains.extend(proxy::PORTS.map(closed));
    Listener {
        name: names::INBOUND.to_owned(),
        address: Some(wire::address(IpAddr::V4(Ipv4Addr::UNSPECIFIED), proxy::INBOUND_PORT)),
        traffic_direction: TrafficDirection::Inbound as i32,
        listener_filters: vec![
            listener_filter("envoy.filters.listener.original_dst", &OriginalDst {}),
            listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default()),
        ],
        // A plaintext caller may wait for the server to send first: then silence must not end the connection.
        listener_filters_timeout: wire::seconds(if permissive { 1 } else { HANDSHAKE }),
        continue_on_listener_filters_timeout: permissive,
        filter_chains,
        default_filter_chain: permissive.then(|| others(marks.get(&names::OTHER_PORTS))),
        ..Listener::default()
    }
}

/// Builds the chain for connections from proxies of the mesh.
fn meshed(port: u16, protocol: Protocol, mtls: MtlsMode, mark: Option<&String>) -> FilterChain {
    let server_names = match mtls {
        MtlsMode::Strict => Vec::new(),
        // Other TLS is the workload's own.
        MtlsMode::Permissive => vec![names::SNI_SUFFIX.to_owned()],
    };
    let matches = FilterChainMatch { transport_protocol: "tls".to_owned(), server_names, ..at(port) };
    FilterChain {
        transport_socket: Some(match protocol {
            // HTTP accepts every client of the mesh: those without permission get a status rather than a reset.
            Protocol::Http => tls::downstream(names::TRUST),
            Protocol::Tcp => tls::downstream(&names::clients(port)),
        }),
        transport_socket_connect_timeout: wire::seconds(HANDSHAKE),
        ..chain(name(port, "mtls", mark), matches, filters(port, protocol))
    }
}

/// Builds the chain for connections from outside the mesh. They have no principal, so no grant lets them through.
fn plain(port: u16, protocol: Protocol, mark: Option<&String>) -> FilterChain {
    chain(name(port, "plain", mark), at(port), plain_filters(port, protocol))
}

/// Builds the chain for connections to ports that are not named, from any client.
fn others(mark: Option<&String>) -> FilterChain {
    FilterChain {
        name: name(names::OTHER_PORTS, "open", mark),
        filters: plain_filters(names::OTHER_PORTS, Protocol::Tcp),
        ..FilterChain::default()
    }
}

fn closed(port: u16) -> FilterChain {
    chain(format!("{port}/closed"), at(port), vec![filter::tcp(names::BLACKHOLE)])
}

fn filters(port: u16, protocol: Protocol) -> Vec<Filter> {
    match protocol {
        Protocol::Http => vec![filter::inbound_http(port)],
        Protocol::Tcp => vec![filter::inbound_rbac(port), filter::inbound_tcp()],
    }
}

fn plain_filters(port: u16, protocol: Protocol) -> Vec<Filter> {
    match protocol {
        Protocol::Http => filters(port, protocol),
        Protocol::Tcp => vec![filter::inbound_rbac(port), filter::inbound_plain(port)],
    }
}

fn name(port: u16, side: &str, mark: Option<&String>) -> String {
    match mark {
        Some(mark) => format!("{port}/{side}/{mark}"),
        None => format!("{port}/{side}"),
    }
}

fn at(port: u16) -> FilterChainMatch {
    FilterChainMatch { destination_port: wire::number(u32::from(port)), ..FilterChainMatch::default() }
}

fn listener_filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(wire::any(config))),
        ..ListenerFilter::default()
    }
}
