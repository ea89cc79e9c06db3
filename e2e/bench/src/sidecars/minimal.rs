//! Path for comparison: the smallest hand-written Envoy configuration that carries HTTP/1.1 through mTLS.
//!
//! No policy, no split, no discovery, no log. It is leaner than most hand-written ones: what a mesh has no use for and
//! Envoy does by default (request ids, its own headers, timers for each request) is off, as it is in ours. The
//! certificates, the version of TLS, the protocol, the threads and the redirection are those of ours.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    identity,
    pods::{PORT, Side},
};

const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const UPSTREAM: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const DOWNSTREAM: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// Returns the bootstrap of the Envoy of a side.
pub fn bootstrap(side: Side, keys: &Path) -> Value {
    let (listener, cluster) = match side {
        Side::Client => {
            let tls = json!({"@type": UPSTREAM, "sni": "server", "common_tls_context": context(side, keys)});
            let tls = json!({"name": "tls", "typed_config": tls});
            (listener("127.0.0.1", 15001, None), cluster(Side::Server.address(), Some(tls)))
        }
        Side::Server => {
            let tls = json!({
                "@type": DOWNSTREAM, "require_client_certificate": true,
                "common_tls_context": context(side, keys),
            });
            let tls = json!({"name": "tls", "typed_config": tls});
            (listener("0.0.0.0", 15006, Some(tls)), cluster("127.0.0.1", None))
        }
    };
    json!({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
}

fn context(side: Side, keys: &Path) -> Value {
    let file = |name: &str| json!({"filename": keys.join(name)});
    let peer = match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    };
    json!({
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{
            "certificate_chain": file(&format!("{}.pem", side.name())),
            "private_key": file(&format!("{}.key", side.name())),
        }],
        "validation_context": {
            "trusted_ca": file("root.pem"),
            "match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"exact": identity::name(peer)}},
            ],
        },
    })
}

fn listener(address: &str, port: u16, tls: Option<Value>) -> Value {
    let manager = json!({
        "@type": HCM,
        "stat_prefix": "minimal",
        "generate_request_id": false,
        "stream_idle_timeout": "0s",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "next", "timeout": "0s"}},
        ]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER, "suppress_envoy_headers": true}}],
    });
    let mut chain = json!({"filters": [{"name": "http", "typed_config": manager}]});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({
        "name": "minimal",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [chain],
    })
}

fn cluster(address: &str, tls: Option<Value>) -> Value {
    let address = json!({"socket_address": {"address": address, "port_value": PORT}});
    let mut cluster = json!({
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "next", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address}}]},
        ]},
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
    }
    cluster
}
