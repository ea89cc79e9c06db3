//! Builds the access loggers by which a proxy counts its traffic as statistics with labels for the peer of each call.
//!
//! In the inbound listener of a class, in the virtual outbound listener for calls that the caller's own proxy refuses,
//! and in the router of outbound requests, which is served over ECDS so that all Services' listeners share it.
//! `bootstrap::traffic` pushes what is counted; `smidge_traffic_metrics` reads it. No label is chosen by a caller
//! except its path to an existing Service: the peer is what its certificate states.

use envoy_types::pb::{
    envoy::{
        config::accesslog::v3::{AccessLog, AccessLogFilter, access_log},
        data::accesslog::v3::AccessLogType,
        extensions::access_loggers::stats::v3::{
            Config,
            config::{Counter, Histogram, Stat, Tag, histogram::Unit},
        },
        r#type::v3::Scope,
    },
    google::protobuf::{UInt32Value, UInt64Value},
};

use super::{
    log_filter::{self, all, of_type},
    rbac, wire,
};
use crate::mesh::proxy::TrafficStats;

/// Prefix of the names of all of these statistics.
pub const PREFIX: &str = "smidge";
/// Requests that a workload received, by peer and outcome.
pub const INBOUND_REQUESTS: &str = "inbound_requests";
/// Latency of these, in milliseconds.
pub const INBOUND_LATENCY: &str = "inbound_latency_ms";
/// TCP connections to a workload that have ended, by peer and outcome.
pub const INBOUND_CONNECTIONS: &str = "inbound_connections";
/// Requests that a workload sent, by Service, backend, server and outcome.
pub const OUTBOUND_REQUESTS: &str = "outbound_requests";
/// Latency of these, in milliseconds.
pub const OUTBOUND_LATENCY: &str = "outbound_latency_ms";
/// Calls that a workload's own proxy refused, by the address that was dialled.
pub const OUTBOUND_REFUSED: &str = "outbound_refused";

/// Maximum number of series of each logger: about 0.4 KB a counter, and 4 KB a histogram.
const MAX_COUNTERS: u32 = 2_000;
const MAX_HISTOGRAMS: u32 = 500;

/// A label, and Envoy's format of its value.
type Label = (&'static str, &'static str);

const CLIENT: [Label; 2] =
    [("peer_id", "%DOWNSTREAM_PEER_URI_SAN%"), ("peer_subject", "%DOWNSTREAM_PEER_SUBJECT%")];
const SERVER: [Label; 2] =
    [("peer_id", "%UPSTREAM_PEER_URI_SAN%"), ("peer_subject", "%UPSTREAM_PEER_SUBJECT%")];
/// The Service that was called, as the chain of its listener is called, and the cluster that took the call.
const SERVICE: [Label; 2] = [("root", "%FILTER_CHAIN_NAME%"), ("service", "%UPSTREAM_CLUSTER%")];
const OUTCOME: [Label; 3] =
    [("code", "%RESPONSE_CODE%"), ("flags", "%RESPONSE_FLAGS%"), ("grpc", "%GRPC_STATUS_NUMBER%")];
/// The address that was dialled, and the chain that refused: its name begins with the reason.
const REFUSED: [Label; 2] = [("address", "%DOWNSTREAM_LOCAL_ADDRESS%"), ("chain", "%FILTER_CHAIN_NAME%")];
/// The number of the attempt, which the router writes: one that found no server may be followed by another for the same
/// request.
const ATTEMPT: Label = ("attempt", "%REQ(X-ENVOY-ATTEMPT-COUNT)%");
/// The mark of an answer after which the caller's proxy makes another attempt (`retry`).
const RETRIED: Label = ("retried", "%RESP(X-SMIDGE-RETRY)%");
/// The route of the request, where routes are measured (`rbac::routes`).
const ROUTE: Label = ("route", rbac::ROUTE_STATE);
const OF_HTTP_POLICY: [Label; 2] = [
    ("enforced", "%DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_engine_result)%"),
    ("shadow", "%DYNAMIC_METADATA(envoy.filters.http.rbac:shadow_engine_result)%"),
];
const OF_TCP_POLICY: [Label; 2] = [
    ("termination", "%CONNECTION_TERMINATION_DETAILS%"),
    ("shadow", "%DYNAMIC_METADATA(envoy.filters.network.rbac:shadow_engine_result)%"),
];

/// Builds the loggers of the requests to a workload. A request that policy denies has no latency.
pub fn inbound_requests(stats: TrafficStats) -> Vec<AccessLog> {
    let counted =
        counter(INBOUND_REQUESTS, &[&CLIENT[..], &OUTCOME, &OF_HTTP_POLICY, &[ROUTE, RETRIED]].concat());
    let timed = histogram(INBOUND_LATENCY, &[&CLIENT[..], &[ROUTE]].concat());
    let end = of_type(AccessLogType::DownstreamEnd);
    let is_served =
        log_filter::decision("envoy.filters.http.rbac", "enforced_engine_result", "allowed", true);
    let served = all(vec![end.clone(), is_served]);
    logger(stats, end, counted).into_iter().chain(logger(stats, served, timed)).collect()
}

/// Builds the logger of the connections to a workload's TCP port.
pub fn inbound_connections(stats: TrafficStats) -> Option<AccessLog> {
    let counted = counter(INBOUND_CONNECTIONS, &[&CLIENT[..], &OF_TCP_POLICY].concat());
    logger(stats, of_type(AccessLogType::TcpConnectionEnd), counted)
}

/// Builds the loggers of the requests that a workload sends: of those for which its proxy chose a server. An attempt that
/// got no answer has no latency.
pub fn outbound_requests(stats: TrafficStats) -> Vec<AccessLog> {
    let counted =
        counter(OUTBOUND_REQUESTS, &[&SERVICE[..], &SERVER, &OUTCOME, &[ATTEMPT, RETRIED]].concat());
    let timed = histogram(OUTBOUND_LATENCY, &[&SERVICE[..], &SERVER].concat());
    let end = of_type(AccessLogType::UpstreamEnd);
    let answered = all(vec![end.clone(), log_filter::has_status()]);
    logger(stats, end, counted).into_iter().chain(logger(stats, answered, timed)).collect()
}

/// Builds the logger of the requests that a workload's own proxy refuses.
pub fn refused_requests(stats: TrafficStats) -> Option<AccessLog> {
    logger(stats, of_type(AccessLogType::DownstreamEnd), counter(OUTBOUND_REFUSED, &REFUSED))
}

/// Builds the logger of the connections that a workload's own proxy refuses.
pub fn refused_connections(stats: TrafficStats) -> Option<AccessLog> {
    logger(stats, of_type(AccessLogType::TcpConnectionEnd), counter(OUTBOUND_REFUSED, &REFUSED))
}

/// Builds a logger, for calls that the filter matches.
fn logger(stats: TrafficStats, filter: AccessLogFilter, counted: Config) -> Option<AccessLog> {
    let config = match stats {
        TrafficStats::None => return None,
        #[expect(deprecated, reason = "the only field that Envoy before 1.39 accepts")]
        TrafficStats::Unbounded => Config { stat_prefix: PREFIX.to_owned(), ..counted },
        TrafficStats::Bounded => Config { stats_scope: Some(scope()), ..counted },
    };
    Some(AccessLog {
        name: "envoy.access_loggers.stats".to_owned(),
        filter: Some(filter),
        config_type: Some(access_log::ConfigType::TypedConfig(wire::any(&config))),
    })
}

/// Builds the scope of a logger: one for each, as Envoy 1.40 crashes on a configuration with a shared one that it only
/// validates.
fn scope() -> Scope {
    Scope {
        prefix: PREFIX.to_owned(),
        max_counters: Some(UInt32Value { value: MAX_COUNTERS }),
        max_histograms: Some(UInt32Value { value: MAX_HISTOGRAMS }),
        // A series without traffic for some time makes room for another.
        enable_eviction: true,
        ..Scope::default()
    }
}

fn counter(name: &str, labels: &[Label]) -> Config {
    let one = Some(UInt64Value { value: 1 });
    let counter = Counter { stat: Some(stat(name, labels)), value_fixed: one, ..Counter::default() };
    Config { counters: vec![counter], ..Config::default() }
}

fn histogram(name: &str, labels: &[Label]) -> Config {
    let (stat, value_format) = (Some(stat(name, labels)), "%DURATION%".to_owned());
    let histogram = Histogram { stat, unit: Unit::Milliseconds as i32, value_format };
    Config { histograms: vec![histogram], ..Config::default() }
}

fn stat(name: &str, labels: &[Label]) -> Stat {
    let tag = |(name, format): &Label| Tag {
        name: (*name).to_owned(),
        value_format: (*format).to_owned(),
        ..Tag::default()
    };
    Stat { name: name.to_owned(), tags: labels.iter().map(tag).collect() }
}
