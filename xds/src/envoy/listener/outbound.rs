//! Builds the outbound listeners: one for each address and port of a Service, and the virtual one before them.
//!
//! None of them depends on the caller: a proxy gets those that it may use. Other calls meet the virtual listener's own
//! chains for the mesh's addresses, so that nothing of the mesh is ever dialled in plaintext.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use envoy_types::pb::envoy::config::{
    core::v3::{CidrRange, TrafficDirection},
    listener::v3::{FilterChain, FilterChainMatch, Listener},
};

use super::{DETECTION, HTTP, addresses as all_addresses, chain, http_inspector, words};
use crate::{
    envoy::{
        filter::{self, Options, Refusal},
        names, wire,
    },
    mesh::{
        id::ServiceId,
        proxy::{self, Families},
        service::Protocol,
        settings::Settings,
    },
};

const REFUSAL: &str = "smidge: access denied by the mesh's policy: no TrafficTarget allows this workload to call \
                       this Service";

const NO_ENDPOINT: &str =
    "smidge: no pod in the mesh serves this port of the Service, and the call is not sent in plaintext";

/// Answer to calls of a port for which a proxy has no listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closed {
    /// The port has servers, and policy does not allow the caller.
    ByPolicy,
    /// No pod in the mesh serves the port.
    ForWantOfServers,
}

/// The addresses of the mesh by port, protocol and answer, which may be reached over a listener of their own only.
pub type Addresses = BTreeMap<(u16, Protocol, Closed), BTreeSet<IpAddr>>;

/// Builds the listener of one address of a Service's port. The virtual listener finds it, so it binds nothing.
pub fn service(
    service: &ServiceId,
    port: u16,
    protocol: Protocol,
    address: IpAddr,
    settings: &Settings,
) -> Listener {
    let name = names::service_port(service, port);
    let all = FilterChainMatch::default;
    let http = || vec![filter::outbound_http(service, port, settings)];
    let tcp = || vec![filter::outbound_tcp(service, port)];
    let filter_chains = match protocol {
        Protocol::Http => vec![chain(name, all(), http())],
        Protocol::Tcp => vec![chain(name, all(), tcp())],
        Protocol::Detect => {
            let detected = FilterChainMatch { application_protocols: words(&HTTP), ..all() };
            vec![chain(format!("{name}/http"), detected, http()), chain(name, all(), tcp())]
        }
    };
    let detects = protocol == Protocol::Detect;
    Listener {
        filter_chains,
        listener_filters: if detects { vec![http_inspector()] } else { Vec::new() },
        listener_filters_timeout: detects.then(|| wire::milliseconds(DETECTION)).flatten(),
        continue_on_listener_filters_timeout: detects,
        bind_to_port: wire::flag(false),
        // One set of statistics for all of them, as for their filters: a Service's own are those of its cluster.
        stat_prefix: names::OUTBOUND.to_owned(),
        name: names::outbound_listener(address, port),
        address: Some(wire::address(address, port)),
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Listener::default()
    }
}

/// Builds the listener to which connections are redirected, at the loopback address of each family.
pub fn virtual_listener(addresses: &Addresses, options: Options<'_>, families: Families) -> Listener {
    let loopback: Vec<IpAddr> = families.loopback().collect();
    let (address, additional_addresses) = all_addresses(families.loopback(), proxy::OUTBOUND_PORT);
    let own = to(proxy::OUTBOUND_PORT, &loopback);
    let mut filter_chains = vec![chain("own".to_owned(), own, vec![filter::tcp(names::BLACKHOLE)])];
    filter_chains.extend(
        addresses
            .iter()
            .map(|((port, protocol, closed), ips)| refuse(*port, *protocol, *closed, ips, options)),
    );
    Listener {
        filter_chains,
        default_filter_chain: Some(FilterChain {
            name: names::PASSTHROUGH.to_owned(),
            filters: vec![filter::tcp(names::PASSTHROUGH)],
            ..FilterChain::default()
        }),
        use_original_dst: wire::flag(true),
        name: names::OUTBOUND.to_owned(),
        address,
        additional_addresses,
        traffic_direction: TrafficDirection::Outbound as i32,
        ..Listener::default()
    }
}

fn refuse(
    port: u16,
    protocol: Protocol,
    closed: Closed,
    ips: &BTreeSet<IpAddr>,
    options: Options<'_>,
) -> FilterChain {
    let refusal = match closed {
        Closed::ByPolicy => Refusal { name: "refuse", code: 403, text: REFUSAL, by_policy: true },
        Closed::ForWantOfServers => {
            Refusal { name: "no-endpoint", code: 503, text: NO_ENDPOINT, by_policy: false }
        }
    };
    let kind = refusal.name;
    let (name, filter) = match protocol {
        Protocol::Http => (format!("{kind}/{port}/http"), filter::refuse_http(&refusal, options)),
        Protocol::Tcp => (format!("{kind}/{port}/tcp"), filter::refuse_tcp(&refusal, options)),
        Protocol::Detect => (format!("{kind}/{port}/detect"), filter::refuse_any(&refusal, options)),
    };
    chain(name, to(port, ips), vec![filter])
}

fn to<'a>(port: u16, ips: impl IntoIterator<Item = &'a IpAddr>) -> FilterChainMatch {
    FilterChainMatch {
        destination_port: wire::number(u32::from(port)),
        prefix_ranges: ips
            .into_iter()
            .map(|ip| CidrRange {
                address_prefix: ip.to_string(),
                prefix_len: wire::number(if ip.is_ipv4() { 32 } else { 128 }),
            })
            .collect(),
        ..FilterChainMatch::default()
    }
}
