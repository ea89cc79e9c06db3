//! Listeners of both sides. `outbound` is shared by the whole mesh, `inbound` by a class of workloads.

pub mod inbound;
pub mod outbound;

use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch};

fn chain(name: String, matches: FilterChainMatch, filters: Vec<Filter>) -> FilterChain {
    FilterChain { name, filter_chain_match: Some(matches), filters, ..FilterChain::default() }
}
