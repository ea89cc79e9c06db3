//! Answers the workload's own health checks at its proxy.
//!
//! Under strict mutual TLS the platform's checker cannot connect to the workload, and a redirected TCP connect always
//! succeeds. So it requests an exact path from the proxy instead. An HTTP check is passed on as the request that the
//! workload expects, and nothing else of the caller's request is: no method but GET, no query, no header, no body. TCP
//! and gRPC checks become active health checks, whose last outcome is the answer. Does not define the checks.

use std::time::Duration;

use serde_json::{Value, json};

use super::{BootstrapInput, method_is_get, target_is};

/// Maximum time after the last active check for which its outcome may still be the answer.
const STALE_AT_MOST: Duration = Duration::from_secs(5);

/// One check that the proxy answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Name of the check, for example `app/liveness`; unique. The caller requests [`Probe::path`].
    pub name: String,
    /// Token that a caller must know. It is in the path alone, and in nothing that is counted, logged or shown.
    pub token: String,
    /// Check of the workload.
    pub check: Check,
    /// Time limit of an answer; `None`: no limit.
    pub timeout: Option<Duration>,
    /// Interval between requests of the caller. Active checks run twice as often: at least every 5 s, at most every
    /// second.
    pub period: Duration,
}

/// Check of the workload by its proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// An HTTP GET.
    Http {
        /// The workload's port.
        port: u16,
        /// True if over TLS, with the server's certificate unchecked.
        tls: bool,
        /// The path with its query.
        path: String,
        /// The `Host` header; `None`: the address and the port.
        host: Option<String>,
        /// Further headers in order; a name may repeat.
        headers: Vec<(String, String)>,
    },
    /// The port accepts a connection.
    Tcp {
        /// The workload's port.
        port: u16,
    },
    /// The port answers `grpc.health.v1.Health/Check` with SERVING.
    Grpc {
        /// The workload's port.
        port: u16,
        /// The service to check; empty: the server as a whole.
        service: String,
    },
}

impl Probe {
    /// Returns the path on the readiness port.
    pub fn path(&self) -> String {
        format!("/smidge/probe/{}/{}", self.name, self.token)
    }

    fn cluster_name(&self) -> String {
        format!("probe/{}", self.name)
    }

    /// Matches the exact path (with its empty query), GET, and no announced body.
    fn request_match(&self) -> Value {
        json!([
            target_is(&self.path()),
            method_is_get(),
            {"name": "content-length", "present_match": true, "invert_match": true},
        ])
    }

    /// Builds the route of an HTTP check.
    pub(super) fn route(&self, input: &BootstrapInput) -> Option<Value> {
        let Check::Http { port, path, host, headers, .. } = &self.check else { return None };
        let authority = host.clone().unwrap_or_else(|| input.family.authority(&input.address, *port));
        let header = |(name, value): &(String, String)| {
            json!({
                "header": {"key": name, "value": value.replace('%', "%%")},
                "append_action": "APPEND_IF_EXISTS_OR_ADD",
            })
        };
        Some(json!({
            "match": {"path": self.path(), "headers": self.request_match()},
            "route": {
                "cluster": self.cluster_name(),
                "prefix_rewrite": path,
                "host_rewrite_literal": authority,
                "timeout": seconds(self.timeout.unwrap_or_default()),
            },
            "request_headers_to_add": headers.iter().map(header).collect::<Vec<_>>(),
            "typed_per_filter_config": {LUA: {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute", "name": NO_TEXT,
            }},
        }))
    }

    /// Builds the filter that answers a TCP or gRPC check: 200 while the workload passes, else 503, also before the
    /// first check.
    pub(super) fn health_filter(&self) -> Option<Value> {
        if matches!(self.check, Check::Http { .. }) {
            return None;
        }
        Some(json!({"name": "envoy.filters.http.health_check", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck",
            "pass_through_mode": false,
            "cluster_min_healthy_percentages": {self.cluster_name(): {"value": 100}},
            "headers": self.request_match(),
        }}))
    }

    pub(super) fn cluster(&self, input: &BootstrapInput) -> Value {
        let (Check::Http { port, .. } | Check::Tcp { port } | Check::Grpc { port, .. }) = &self.check;
        let name = self.cluster_name();
        let mut cluster = json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": seconds(self.timeout.unwrap_or(Duration::from_secs(30))),
            "upstream_bind_config": {"source_address": {"address": input.family.inbound_source(), "port_value": 0}},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                "socket_address": {"address": input.address, "port_value": port},
            }}}]}]},
        });
        let parts = match &self.check {
            Check::Http { tls, .. } => http_parts(*tls),
            Check::Tcp { .. } => vec![("health_checks", self.active(&json!({"tcp_health_check": {}})))],
            Check::Grpc { service, .. } => {
                let authority = input.family.authority(&input.address, *port);
                let check = json!({"grpc_health_check": {"service_name": service, "authority": authority}});
                vec![("health_checks", self.active(&check)), protocol(&json!({"http2_protocol_options": {}}))]
            }
        };
        for (key, value) in parts {
            if let Some(fields) = cluster.as_object_mut() {
                fields.insert(key.to_owned(), value);
            }
        }
        cluster
    }

    /// Builds the active check. Every outcome counts at once: the caller counts answers and has thresholds of its own.
    fn active(&self, check: &Value) -> Value {
        let healthy = (self.period / 2).clamp(Duration::from_secs(1), STALE_AT_MOST);
        let unhealthy = Duration::from_secs(1);
        let mut settings = json!({
            "timeout": seconds(self.timeout.unwrap_or(Duration::from_secs(1))),
            "interval": seconds(healthy),
            "no_traffic_interval": seconds(unhealthy),
            "no_traffic_healthy_interval": seconds(healthy),
            "unhealthy_interval": seconds(unhealthy),
            "unhealthy_threshold": 1,
            "healthy_threshold": 1,
            // A new connection each time, as the platform does it: a full listen queue must be detected.
            "reuse_connection": false,
        });
        if let (Some(settings), Some(check)) = (settings.as_object_mut(), check.as_object()) {
            settings.extend(check.clone());
        }
        json!([settings])
    }
}

/// Builds the filter that removes every header from a request, so that a caller can send nothing to the workload. Each
/// route then adds the headers of its check; the pages of the admin interface need none.
pub(super) fn forget_headers() -> Value {
    json!({"name": "envoy.filters.http.header_mutation", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {"request_mutations": [every_header()]},
    }})
}

/// Builds the filters that remove everything from an answer but its status, which is all that the caller reads: body
/// and headers are meant for clients that the workload knows. A redirect is then only an answer, and leads nowhere.
/// They are the first of all filters, so that the answers of the others pass them as well.
pub(super) fn status_alone() -> [Value; 2] {
    [
        json!({"name": "envoy.filters.http.header_mutation", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"response_mutations": [every_header()]},
        }}),
        json!({"name": LUA, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "source_codes": {NO_TEXT: {"inline_string": NO_TEXT_SCRIPT}},
        }}),
    ]
}

/// Name of the filter that runs a script, for the answers to checks alone: no filter of Envoy's that is declared stable
/// drops a body. The script keeps nothing of the body, so that there is no length that it cannot handle.
const LUA: &str = "envoy.filters.http.lua";
const NO_TEXT: &str = "no-text";
const NO_TEXT_SCRIPT: &str =
    "function envoy_on_response(answer) for part in answer:bodyChunks() do part:setBytes(\"\") end end";

/// Removes all headers but those with a colon, which are the request or status line.
fn every_header() -> Value {
    json!({"remove_on_match": {"key_matcher": {"safe_regex": {"regex": "[^:].*"}}}})
}

/// Builds the filter that refuses a body, as far as Envoy can: a length that is announced finds no route, but a chunked
/// body is seen only as it arrives. One byte is the smallest limit, so any longer body is answered 413, not forwarded.
pub(super) fn no_body() -> Value {
    json!({"name": "envoy.filters.http.buffer", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
        "max_request_bytes": 1,
    }})
}

fn http_parts(tls: bool) -> Vec<(&'static str, Value)> {
    // One request a connection: a kept connection would hide a workload that accepts no new one.
    let mut parts = vec![protocol(&json!({"http_protocol_options": {}}))];
    if tls {
        parts.push((
            "transport_socket",
            json!({"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3",
                }},
            }}),
        ));
    }
    parts
}

fn protocol(explicit: &Value) -> (&'static str, Value) {
    let options = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"max_requests_per_connection": 1},
        "explicit_http_config": explicit,
    }});
    ("typed_extension_protocol_options", options)
}

/// Returns a duration in protobuf's JSON form.
fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}
