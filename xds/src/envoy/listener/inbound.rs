//! Builds the inbound listener of a class of workloads: mTLS, then authorisation of the caller, then the workload at
//! the port dialled.
//!
//! Grants are not in here (`rbac`, over ECDS). A chain's name carries its port's drain mark, the one thing that changes
//! a chain without changing what it does: Envoy then ends the chain's connections.

use std::collections::BTreeMap;

use super::{HTTP, addresses, chain, http_inspector, listener_filter, words};
use crate::{
    envoy::{
        access_log,
        filter::{self, Options},
        names, tls, wire,
    },
    mesh::{access::MtlsMode, proxy, service::Protocol, settings::Settings, workload::Class},
};
use envoy_types::pb::envoy::{
    config::{
        core::v3::TrafficDirection,
        listener::v3::{
            Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter,
            ListenerFilterChainMatchPredicate,
            listener_filter_chain_match_predicate::{MatchSet, Rule},
        },
    },
    extensions::filters::listener::{original_dst::v3::OriginalDst, tls_inspector::v3::TlsInspector},
    r#type::v3::Int32Range,
};

/// Time limit for the first bytes of a connection, in seconds. A plaintext caller may wait for the server to send first,
/// so that silence is plaintext after it; where only mTLS is accepted, it ends the connection. It is the same in both modes
/// as a change of it would replace the listener, which ends every connection.
const FIRST_BYTES: i64 = 1;

/// Time limit of the TLS handshake, in seconds: two exchanges and a signature. A connection that is half open has no
/// identity, blocks no other one, and takes 30 KB.
const HANDSHAKE: i64 = 5;

/// The versions of HTTP that a proxy of the mesh offers.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// The mark of the chains of a workload that is being deleted.
const ENDING: &str = "ending";

/// The drain mark of each TCP port that has one.
pub type Marks = BTreeMap<u16, String>;

/// Builds the listener of a class.
pub fn inbound(class: &Class, marks: &Marks, settings: &Settings) -> Listener {
    // A switch of a mode must end no connection that both modes accept. So the access mode is not in here, and the mTLS
    // mode decides about filter chains alone, which Envoy adds and removes in place.
    let Class { identity: _, ports, access: _, mtls, ends, traffic, families, routes: _ } = class;
    let options = Options { settings, traffic: *traffic };
    let permissive = *mtls == MtlsMode::Permissive;
    let mut filter_chains = Vec::new();
    // A caller must not reach the proxy by a port that a workload declares.
    for (port, protocol) in ports.iter().filter(|(port, _)| !proxy::PORTS.contains(port)) {
        filter_chains.extend(meshed(*port, *protocol, marks.get(port), options));
        if permissive {
            filter_chains.extend(plain(*port, *protocol, marks.get(port), *ends, options));
        }
    }
    let mut listener_filters = vec![
        listener_filter("envoy.filters.listener.original_dst", &OriginalDst {}),
        listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default()),
    ];
    listener_filters.extend(plain_inspector(ports));
    // Added even where no other chain would match them: Envoy refuses a listener without any chain.
    filter_chains.extend(proxy::PORTS.map(closed));
    let (address, additional_addresses) = addresses(families.unspecified(), proxy::INBOUND_PORT);
    Listener {
        name: names::INBOUND.to_owned(),
        address,
        additional_addresses,
        traffic_direction: TrafficDirection::Inbound as i32,
        listener_filters,
        listener_filters_timeout: wire::seconds(FIRST_BYTES),
        continue_on_listener_filters_timeout: true,
        filter_chains,
        access_log: access_log::unmet_connections(settings.access_logs).into_iter().collect(),
        default_filter_chain: permissive.then(|| others(marks.get(&names::OTHER_PORTS))),
        ..Listener::default()
    }
}

/// Builds the filter that detects HTTP in plaintext at the ports whose protocol is not known, if there are any.
fn plain_inspector(ports: &BTreeMap<u16, Protocol>) -> Option<ListenerFilter> {
    let detected = ports.iter().filter(|(_, protocol)| **protocol == Protocol::Detect);
    let at = |(port, _): (&u16, _)| {
        predicate(Rule::DestinationPortRange(Int32Range {
            start: i32::from(*port),
            end: i32::from(*port) + 1,
        }))
    };
    let rules: Vec<_> = detected.map(at).collect();
    // A set needs at least two rules.
    let any = match <[_; 1]>::try_from(rules) {
        Ok([rule]) => rule,
        Err(rules) if rules.is_empty() => return None,
        Err(rules) => predicate(Rule::OrMatch(MatchSet { rules })),
    };
    let others = predicate(Rule::NotMatch(Box::new(any)));
    Some(ListenerFilter { filter_disabled: Some(others), ..http_inspector() })
}

fn predicate(rule: Rule) -> ListenerFilterChainMatchPredicate {
    ListenerFilterChainMatchPredicate { rule: Some(rule) }
}

/// Builds the chains for connections from proxies of the mesh. A proxy that forwards HTTP offers its version as ALPN, and
/// one that forwards bytes offers nothing. That only selects the chain: each one judges its callers.
fn meshed(port: u16, protocol: Protocol, mark: Option<&String>, options: Options<'_>) -> Vec<FilterChain> {
    let chain = |protocol, name: String| meshed_chain(port, name, filters(port, protocol, options), protocol);
    let tls = |protocol, side: &str| chain(protocol, name(port, side, mark));
    match protocol {
        Protocol::Http | Protocol::Tcp => vec![tls(protocol, "mtls")],
        Protocol::Detect => {
            let mut http = chain(Protocol::Http, name(port, "mtls-http", None));
            let matches = http.filter_chain_match.get_or_insert_default();
            matches.application_protocols = words(&ALPN);
            vec![http, tls(Protocol::Tcp, "mtls")]
        }
    }
}

fn meshed_chain(port: u16, name: String, filters: Vec<Filter>, protocol: Protocol) -> FilterChain {
    // Other TLS is the workload's own: plaintext to the mesh.
    let server_names = vec![names::SNI_SUFFIX.to_owned()];
    let matches = FilterChainMatch { transport_protocol: "tls".to_owned(), server_names, ..at(port) };
    FilterChain {
        transport_socket: Some(match protocol {
            // HTTP accepts every client of the mesh: those without permission get a status rather than a reset.
            Protocol::Http => tls::downstream(names::TRUST),
            Protocol::Tcp | Protocol::Detect => tls::downstream(&names::clients(port)),
        }),
        transport_socket_connect_timeout: wire::seconds(HANDSHAKE),
        ..chain(name, matches, filters)
    }
}

/// Builds the chains for connections from outside the mesh. They have no principal, so no grant lets them through. Those
/// for HTTP are others once the workload `ends`: Envoy then asks the callers of the previous ones to connect again, which
/// leads them elsewhere. Nothing else could: no proxy of theirs repeats a request.
fn plain(
    port: u16,
    protocol: Protocol,
    mark: Option<&String>,
    ends: bool,
    options: Options<'_>,
) -> Vec<FilterChain> {
    let filters = |protocol| plain_filters(port, protocol, options);
    let ending = ends.then(|| ENDING.to_owned());
    let plain = |protocol| chain(name(port, "plain", mark), at(port), filters(protocol));
    match protocol {
        Protocol::Http => {
            vec![chain(name(port, "plain", ending.as_ref().or(mark)), at(port), filters(protocol))]
        }
        Protocol::Tcp => vec![plain(protocol)],
        Protocol::Detect => {
            let detected = FilterChainMatch { application_protocols: words(&HTTP), ..at(port) };
            let http = name(port, "plain-http", ending.as_ref());
            // TLS of the workload may offer the names of HTTP, and is not HTTP to the proxy.
            let tls = FilterChainMatch { transport_protocol: "tls".to_owned(), ..at(port) };
            let tls = chain(name(port, "plain-tls", mark), tls, filters(Protocol::Tcp));
            vec![chain(http, detected, filters(Protocol::Http)), tls, plain(Protocol::Tcp)]
        }
    }
}

/// Builds the chain for connections to ports that are not named, from any client.
fn others(mark: Option<&String>) -> FilterChain {
    FilterChain {
        name: name(names::OTHER_PORTS, "open", mark),
        filters: plain_tcp(names::OTHER_PORTS),
        ..FilterChain::default()
    }
}

fn closed(port: u16) -> FilterChain {
    chain(format!("{port}/closed"), at(port), vec![filter::tcp(names::BLACKHOLE)])
}

fn filters(port: u16, protocol: Protocol, options: Options<'_>) -> Vec<Filter> {
    match protocol {
        Protocol::Http => vec![filter::inbound_http(port, false, options)],
        Protocol::Tcp | Protocol::Detect => {
            vec![filter::inbound_rbac(port), filter::inbound_tcp(options)]
        }
    }
}

fn plain_filters(port: u16, protocol: Protocol, options: Options<'_>) -> Vec<Filter> {
    match protocol {
        Protocol::Http => vec![filter::inbound_http(port, true, options)],
        Protocol::Tcp | Protocol::Detect => plain_tcp(port),
    }
}

fn plain_tcp(port: u16) -> Vec<Filter> {
    vec![filter::inbound_rbac(port), filter::inbound_plain(port)]
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
