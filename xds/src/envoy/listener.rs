//! Listeners of both sides. `outbound` is shared by the whole mesh, `inbound` by a class of workloads.

pub mod inbound;
pub mod outbound;

use std::net::IpAddr;

use envoy_types::pb::envoy::{
    config::{
        core::v3::Address,
        listener::v3::{
            AdditionalAddress, Filter, FilterChain, FilterChainMatch, ListenerFilter, listener_filter,
        },
    },
    extensions::filters::listener::http_inspector::v3::HttpInspector,
};
use prost::{Message, Name};

use super::wire;

/// Splits the addresses at which a listener accepts connections into its first one and the others.
fn addresses(all: impl Iterator<Item = IpAddr>, port: u16) -> (Option<Address>, Vec<AdditionalAddress>) {
    let mut all = all.map(|address| wire::address(address, port));
    let first = all.next();
    (first, all.map(|address| AdditionalAddress { address: Some(address), ..Default::default() }).collect())
}

/// Time limit of the detection of a protocol, in milliseconds: a caller that waits for the server to send first is
/// forwarded after it, and one of HTTP that is silent for longer is forwarded as bytes (docs/design/017).
const DETECTION: i32 = 500;

/// The words by which `http_inspector` marks a connection in plaintext.
const HTTP: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];

/// Builds the listener filter that detects HTTP in plaintext.
fn http_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", &HttpInspector {})
}

fn listener_filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(wire::any(config))),
        ..ListenerFilter::default()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn chain(name: String, matches: FilterChainMatch, filters: Vec<Filter>) -> FilterChain {
    FilterChain { name, filter_chain_match: Some(matches), filters, ..FilterChain::default() }
}
