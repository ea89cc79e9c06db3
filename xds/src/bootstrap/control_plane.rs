//! Builds the part of the bootstrap by which a proxy connects to the control plane, and both authenticate each other.
//!
//! The proxy requires the control plane's exact name under roots that are in the bootstrap; it authenticates itself
//! with the token that the platform keeps in a file, which an upstream filter puts on every stream. No agent takes
//! part. The server evaluates the token.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Family;

/// The name of the cluster and of the connection's statistics.
const NAME: &str = "xds";

/// The file of the token, below [`ControlPlane::credential_folder`].
pub const TOKEN_FILE: &str = "token";
/// The file with [`token_sds`], below [`ControlPlane::credential_folder`]. Envoy derives the format from the extension.
pub const TOKEN_SDS_FILE: &str = "token-sds.json";

/// Control plane from which configuration comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlane {
    /// The full DNS name, or the address, to connect to, for example `smidge.smidge-system.svc.cluster.local`.
    pub host: String,
    /// The port of xDS.
    pub port: u16,
    /// The one DNS name that the control plane's certificate must have.
    pub server_name: String,
    /// The roots of the control plane's authority, each one PEM block: the active one and the standby ones.
    pub roots: Vec<String>,
    /// The folder of [`TOKEN_FILE`] and [`TOKEN_SDS_FILE`], as the proxy sees it.
    pub credential_folder: String,
}

/// Builds the content of [`TOKEN_SDS_FILE`]: names the token's file, and the folder to watch for a new one. The kubelet
/// swaps a link in that folder, so watching the file itself would see nothing.
pub fn token_sds(folder: &str) -> String {
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "token",
        "generic_secret": {"secret": {
            "filename": format!("{folder}/{TOKEN_FILE}"),
            "watched_directory": {"path": folder},
        }},
    }]})
    .to_string()
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

    pub(super) fn cluster(&self, family: Family) -> Value {
        // The final dot keeps the resolver from trying every search domain first; an address has none.
        let is_address = self.host.parse::<IpAddr>().is_ok();
        let host =
            if is_address { self.host.clone() } else { format!("{}.", self.host.trim_end_matches('.')) };
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
            "load_assignment": {"cluster_name": NAME, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                "socket_address": {"address": host, "port_value": self.port},
            }}}]}]},
            "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
            "circuit_breakers": {"thresholds": [{
                "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
            }]},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {
                    "connection_keepalive": {"interval": "30s", "timeout": "10s"},
                }},
                "http_filters": [self.credential_filter(), bearer_filter(), {
                    "name": "envoy.filters.http.upstream_codec",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
                    },
                }],
            }},
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": self.tls()},
        })
    }

    /// Builds the filter that puts the token on the stream. A stream without a token is not opened.
    fn credential_filter(&self) -> Value {
        let folder = &self.credential_folder;
        json!({"name": "envoy.filters.http.credential_injector", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
            "overwrite": true,
            "allow_request_without_credential": false,
            "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
                "header": "authorization",
                "credential": {"name": "token", "sds_config": {
                    "resource_api_version": "V3",
                    "path_config_source": {
                        "path": format!("{folder}/{TOKEN_SDS_FILE}"),
                        "watched_directory": {"path": folder},
                    },
                }},
            }},
        }})
    }

    fn tls(&self) -> Value {
        json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": self.server_name,
            "common_tls_context": {
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
            },
        })
    }
}

/// Builds the filter that turns the token into `Bearer <token>`. The credential injector has a prefix of its own from
/// 1.40 on, and 1.36 refuses the field.
fn bearer_filter() -> Value {
    json!({"name": "envoy.filters.http.header_mutation", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {"request_mutations": [{"append": {
            "header": {"key": "authorization", "value": "Bearer %REQ(authorization)%"},
            "append_action": "OVERWRITE_IF_EXISTS",
        }}]},
    }})
}
