//! Builds the part of the bootstrap by which a proxy connects to the control plane, and both authenticate each other.
//!
//! The proxy requires the control plane's exact name under roots that are in the bootstrap; it authenticates itself
//! with a `credential` in files that something else keeps current. No agent takes part.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Family, credential::Credential, traffic, with};
use crate::mesh::proxy::TrafficStats;

/// The name of the cluster and of the connection's statistics.
const NAME: &str = "xds";

/// Control plane from which configuration comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlane {
    /// The full DNS name, or the address, to connect to, for example `smidge.smidge-system.svc.cluster.local`.
    pub host: String,
    /// The port of xDS.
    pub port: u16,
    /// Further hosts and ports that serve the same, if `host` is not a name for all of them.
    pub alternatives: Vec<(String, u16)>,
    /// The one DNS name that the control plane's certificate must have.
    pub server_name: String,
    /// The roots of the control plane's authority, each one PEM block: the active one and the standby ones.
    pub roots: Vec<String>,
    /// The credential by which the proxy authenticates itself.
    pub credential: Credential,
}

/// Returns the host as it is resolved. The final dot keeps the resolver from trying every search domain first; an
/// address has none.
fn resolvable(host: &str) -> String {
    let is_address = host.parse::<IpAddr>().is_ok();
    if is_address { host.to_owned() } else { format!("{}.", host.trim_end_matches('.')) }
}

impl ControlPlane {
    /// Builds the source of listeners and clusters: one aggregated delta stream. Their first fetch has no timeout: a
    /// proxy without its configuration must not become ready and then pass traffic through unprotected.
    pub(super) fn dynamic_resources(&self) -> Value {
        let over_ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
        json!({
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {
                    "cluster_name": NAME,
                    "authority": self.server_name,
                    // The stock back-off grows to 30 s; a restarted control plane should have its proxies back at once.
                    "retry_policy": {"retry_back_off": {"base_interval": "0.2s", "max_interval": "5s"}},
                }}],
            },
            "lds_config": over_ads,
            "cds_config": over_ads,
        })
    }

    /// Builds the fields that push statistics of traffic.
    pub(super) fn traffic_sink(&self, counted: TrafficStats) -> [(&'static str, Value); 3] {
        traffic::fields(NAME, &self.server_name, counted)
    }

    pub(super) fn cluster(&self, family: Family) -> Value {
        let own = (self.host.clone(), self.port);
        let servers: Vec<Value> = std::iter::once(&own)
            .chain(&self.alternatives)
            .map(|(host, port)| {
                json!({"endpoint": {"address": {
                    "socket_address": {"address": resolvable(host), "port_value": port},
                }}})
            })
            .collect();
        let lookup = match family {
            Family::V4 => "V4_PREFERRED",
            Family::V6 => "AUTO",
        };
        json!({
            "name": NAME,
            "cluster_type": {"name": "envoy.clusters.dns", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
                "dns_lookup_family": lookup,
                "dns_refresh_rate": "5s",
                "dns_failure_refresh_rate": {"base_interval": "0.5s", "max_interval": "5s"},
            }},
            "connect_timeout": "5s",
            "load_assignment": {"cluster_name": NAME, "endpoints": [{"lb_endpoints": servers}]},
            "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
            "circuit_breakers": {"thresholds": [{
                "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
            }]},
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": self.credential.http_options(),
            },
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": self.tls()},
        })
    }

    fn tls(&self) -> Value {
        let common = json!({
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
            },
            "alpn_protocols": ["h2"],
            "validation_context": {
                "trusted_ca": {"inline_string": self.roots.concat()},
                "match_typed_subject_alt_names": [
                    {"san_type": "DNS", "matcher": {"exact": self.server_name}},
                ],
            },
        });
        let common = match self.credential.certificate() {
            Some(certificate) => with(common, [("tls_certificate_sds_secret_configs", json!([certificate]))]),
            None => common,
        };
        json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": self.server_name,
            "common_tls_context": common,
        })
    }
}
