//! Selects the statistics that a proxy keeps: those that users of a mesh read, whatever the number of Services it sees.
//!
//! Statistics that multiply with Services, workers or TLS parameters would be most of a proxy's memory in a large mesh,
//! and most of every scrape (docs/design/009). The statistics of a Service's listeners are shared by all of them, see
//! `envoy::listener::outbound`.

use serde_json::{Value, json};

use super::{traffic, with};
use crate::mesh::proxy::TrafficStats;

/// Statistics of a Service's cluster that are not needed: limits that are not set, balancing that is not used, and how
/// its endpoints were received, which the control plane reports for every proxy in one place. Clusters of Services have
/// a slash in their names. Its traffic, its TLS handshakes and the number of its endpoints stay.
const OF_A_CLUSTER: &[&str] = &[
    r"assignment_.*",
    r"bind_errors",
    r"circuit_breakers\..*",
    r"client_ssl_socket_factory\..*",
    r"init_fetch_timeout",
    r"lb_.*",
    r"max_host_weight",
    r"membership_(change|degraded|excluded)",
    r"original_dst_host_invalid",
    r"retry_or_shadow_abandoned",
    r"ssl\.(certificate|ocsp).*",
    r"(default|plaintext)\.total_match_count",
    r"update_.*",
    r"version(_text)?",
    r"warming_state",
];

/// Builds the list of excluded statistics. A prefix that ends with a dot costs Envoy nothing; each other pattern is
/// tried once for each name.
pub(super) fn config(counted: TrafficStats) -> Value {
    let of_a_cluster = format!(r"cluster\.[^/.]+/.*\.({})", OF_A_CLUSTER.join("|"));
    let config = json!({"stats_matcher": {"exclusion_list": {"patterns": [
        {"prefix": "extension_config_discovery.network_filter.outbound/"},
        {"prefix": "http.outbound.rds."},
        {"prefix": "sds.servers/"},
        {"prefix": "vhost."},
        {"contains": ".worker_"},
        {"contains": ".zone."},
        {"contains": ".ssl.ciphers."},
        {"contains": ".ssl.curves."},
        {"contains": ".ssl.sigalgs."},
        {"safe_regex": {"regex": of_a_cluster}},
    ]}}});
    match counted {
        TrafficStats::None => config,
        _ => with(config, [("histogram_bucket_settings", traffic::buckets())]),
    }
}

/// Counts the traffic of a cluster from its first connection on: most workloads call few of those that they may.
pub(super) fn deferred() -> Value {
    json!({"enable_deferred_creation_stats": true})
}
