//! Builds the access logs of a sidecar: a line with a JSON object for each call, on its standard output.
//!
//! At the places where `traffic` counts, with the same facts, and at two more: the inbound listener itself, for callers whose
//! certificate a TCP port refuses, and the filters of TCP ports of Services. Envoy writes the values as JSON, so that no
//! value that a peer chooses can end its field; each of these has a maximum length. `audit` has the lines of audit mode.

use std::collections::BTreeMap;

use envoy_types::pb::{
    envoy::{
        config::accesslog::v3::{AccessLog, AccessLogFilter, access_log},
        data::accesslog::v3::AccessLogType,
        extensions::access_loggers::stream::v3::StdoutAccessLog,
    },
    google::protobuf::{self, value::Kind},
};
use prost::{Message, Name};

use super::{
    log_filter::{self, all, any, of_type},
    rbac,
};
use crate::mesh::settings::{AccessLogs, Share};

/// A field, and Envoy's format of its value.
type Field = (&'static str, &'static str);

/// Fields of every call.
const CALL: [Field; 5] = [
    ("time", "%START_TIME%"),
    ("duration_ms", "%DURATION%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("flags", "%RESPONSE_FLAGS%"),
];
/// Fields of a request. Numbers are the maximum lengths, in bytes, of what callers choose.
const REQUEST: [Field; 10] = [
    ("protocol", "%PROTOCOL%"),
    ("method", "%REQ(:METHOD):32%"),
    ("path", "%PATH(NQ:PATH):512%"),
    ("authority", "%REQ(:AUTHORITY):256%"),
    ("user_agent", "%REQ(USER-AGENT):128%"),
    ("request_id", "%REQ(X-REQUEST-ID):64%"),
    ("traceparent", "%REQ(TRACEPARENT):64%"),
    ("status", "%RESPONSE_CODE%"),
    ("status_details", "%RESPONSE_CODE_DETAILS%"),
    ("grpc_status", "%GRPC_STATUS_NUMBER%"),
];
/// Fields of a TCP connection.
const CONNECTION: [Field; 2] = [("protocol", "TCP"), ("termination", "%CONNECTION_TERMINATION_DETAILS%")];
/// Fields of a call that a workload receives. The server name, of at most 255 bytes, is that of the Service's port.
const RECEIVED: [Field; 9] = [
    ("reporter", "destination"),
    ("source", "%DOWNSTREAM_PEER_URI_SAN%"),
    ("source_subject", "%DOWNSTREAM_PEER_SUBJECT%"),
    ("source_address", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"),
    ("destination", "%DOWNSTREAM_LOCAL_URI_SAN%"),
    ("destination_subject", "%DOWNSTREAM_LOCAL_SUBJECT%"),
    ("destination_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("server_name", "%REQUESTED_SERVER_NAME%"),
    ("tls", "%DOWNSTREAM_TLS_VERSION%"),
];
/// Fields of a call that a workload makes. The Service is the name of its listener's chain.
const SENT: [Field; 10] = [
    ("reporter", "source"),
    ("source", "%UPSTREAM_LOCAL_URI_SAN%"),
    ("destination", "%UPSTREAM_PEER_URI_SAN%"),
    ("destination_subject", "%UPSTREAM_PEER_SUBJECT%"),
    ("destination_address", "%UPSTREAM_HOST%"),
    ("dialled_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("service", "%FILTER_CHAIN_NAME%"),
    ("backend", "%UPSTREAM_CLUSTER%"),
    ("tls", "%UPSTREAM_TLS_VERSION%"),
    ("tls_failure", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
];
/// Fields of a call that the caller's own proxy does not forward.
const REFUSED: [Field; 2] = [("reporter", "source"), ("dialled_address", "%DOWNSTREAM_LOCAL_ADDRESS%")];
/// Number of the attempt at a request, which the router writes.
const ATTEMPT: Field = ("attempt", "%REQ(X-ENVOY-ATTEMPT-COUNT)%");
/// The mark of an answer after which the caller's proxy makes another attempt (`retry`).
const RETRIED: Field = ("retried", "%RESP(X-SMIDGE-RETRY)%");
const ROUTE: Field = ("route", rbac::ROUTE_STATE);
/// Decisions of policy about a request.
const OF_HTTP_POLICY: [Field; 3] = [
    ("policy", "%DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_engine_result)%"),
    ("audit", "%DYNAMIC_METADATA(envoy.filters.http.rbac:shadow_engine_result)%"),
    ("audit_policies", "%DYNAMIC_METADATA(envoy.filters.http.rbac:shadow_effective_policy_id)%"),
];
/// Decisions of policy about a connection; one that it refuses has a `termination`.
const OF_TCP_POLICY: [Field; 2] = [
    ("audit", "%DYNAMIC_METADATA(envoy.filters.network.rbac:shadow_engine_result)%"),
    ("audit_policies", "%DYNAMIC_METADATA(envoy.filters.network.rbac:shadow_effective_policy_id)%"),
];
const DENIED: Field = ("policy", "denied");
/// Reasons for which a caller did not get as far as a filter: its handshake failed, or no chain is for it.
const UNMET: [Field; 2] =
    [("tls_failure", "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"), ("status_details", "%RESPONSE_CODE_DETAILS%")];

/// Builds the log of the requests to a workload.
pub fn inbound_requests(logs: AccessLogs) -> Option<AccessLog> {
    let denied = |key| log_filter::decision("envoy.filters.http.rbac", key, "denied", false);
    let failed = any(vec![
        denied("enforced_engine_result"),
        denied("shadow_engine_result"),
        log_filter::is_server_error(),
        log_filter::is_grpc_error(),
        log_filter::has_flag(),
    ]);
    let fields = [&CALL[..], &REQUEST, &RECEIVED, &OF_HTTP_POLICY, &[ROUTE, RETRIED]];
    log(&fields, of_calls(logs, AccessLogType::DownstreamEnd, failed)?)
}

/// Builds the log of the connections to a workload's TCP port.
pub fn inbound_connections(logs: AccessLogs) -> Option<AccessLog> {
    let failed = any(vec![
        log_filter::decision("envoy.filters.network.rbac", "shadow_engine_result", "denied", false),
        log_filter::meets("connection.termination_details != ''"),
        log_filter::has_flag(),
    ]);
    let fields = [&CALL[..], &CONNECTION, &RECEIVED, &OF_TCP_POLICY];
    log(&fields, of_calls(logs, AccessLogType::TcpConnectionEnd, failed)?)
}

/// Builds the log of the connections in plaintext that a TCP port refuses, all of them.
pub fn plain_connections(logs: AccessLogs) -> Option<AccessLog> {
    let fields = [&CALL[..], &CONNECTION, &RECEIVED, &[DENIED]];
    (!logs.is_off()).then(|| of_type(AccessLogType::TcpConnectionEnd)).and_then(|end| log(&fields, end))
}

/// Builds the log of the connections that reached no filter of an inbound listener: their TLS handshake failed, where a TCP port
/// refuses callers without a grant, or they are in plaintext and only mTLS is accepted.
pub fn unmet_connections(logs: AccessLogs) -> Option<AccessLog> {
    let fields = [&CALL[..], &CONNECTION[..1], &RECEIVED, &UNMET];
    let handshake = || log_filter::meets("connection.transport_failure_reason != ''");
    let failed = || any(vec![handshake(), log_filter::has_no_chain()]);
    (!logs.is_off()).then(failed).and_then(|failed| log(&fields, failed))
}

/// Builds the log of the requests that a workload sends, at each attempt for which its proxy chose a server. Without an
/// answer an attempt has failed; the server's proxy logs the others.
pub fn outbound_requests(logs: AccessLogs) -> Option<AccessLog> {
    let failed = any(vec![log_filter::has_no_status(), log_filter::has_flag()]);
    let fields = [&CALL[..], &REQUEST, &SENT, &[ATTEMPT]];
    log(&fields, of_calls(logs, AccessLogType::UpstreamEnd, failed)?)
}

/// Builds the log of the connections that a workload makes to a Service's TCP port.
pub fn outbound_connections(logs: AccessLogs) -> Option<AccessLog> {
    let fields = [&CALL[..], &CONNECTION, &SENT];
    log(&fields, of_calls(logs, AccessLogType::TcpConnectionEnd, log_filter::has_flag())?)
}

/// Builds the log of the requests that a workload's own proxy does not forward, all of them.
pub fn refused_requests(logs: AccessLogs, by_policy: bool) -> Option<AccessLog> {
    let fields = [&CALL[..], &REQUEST, &REFUSED, policy(by_policy)];
    (!logs.is_off()).then(|| of_type(AccessLogType::DownstreamEnd)).and_then(|end| log(&fields, end))
}

/// Builds the log of the connections that a workload's own proxy does not forward, all of them.
pub fn refused_connections(logs: AccessLogs, by_policy: bool) -> Option<AccessLog> {
    let fields = [&CALL[..], &CONNECTION, &REFUSED, policy(by_policy)];
    (!logs.is_off()).then(|| of_type(AccessLogType::TcpConnectionEnd)).and_then(|end| log(&fields, end))
}

fn policy(is_denied: bool) -> &'static [Field] {
    if is_denied { &[DENIED] } else { &[] }
}

/// Matches the calls that are logged, at their end; `None` if none is.
fn of_calls(logs: AccessLogs, end: AccessLogType, failed: AccessLogFilter) -> Option<AccessLogFilter> {
    let end = of_type(end);
    match logs {
        AccessLogs::Off => None,
        AccessLogs::Errors => Some(all(vec![end, failed])),
        AccessLogs::All(Share::ALL) => Some(end),
        AccessLogs::All(share) => Some(all(vec![end, any(vec![failed, log_filter::sample(share)])])),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every caller returns an option")]
fn log(fields: &[&[Field]], filter: AccessLogFilter) -> Option<AccessLog> {
    let text = |format: &str| protobuf::Value { kind: Some(Kind::StringValue(format.to_owned())) };
    let fields = fields.iter().copied().flatten();
    let json_format =
        JsonFormat { fields: fields.map(|(name, it)| ((*name).to_owned(), text(it))).collect() };
    let config = JsonLog { log_format: Some(LogFormat { json_format: Some(json_format) }) };
    let config = protobuf::Any { type_url: StdoutAccessLog::type_url(), value: config.encode_to_vec() };
    Some(AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        filter: Some(filter),
        config_type: Some(access_log::ConfigType::TypedConfig(config)),
    })
}

/// `StdoutAccessLog` with a JSON format, whose fields have one order: `google.protobuf.Struct` of `envoy_types` is a hash map, whose
/// order differs between processes.
#[derive(Clone, PartialEq, Message)]
struct JsonLog {
    #[prost(message, optional, tag = "1")]
    log_format: Option<LogFormat>,
}

/// `SubstitutionFormatString`.
#[derive(Clone, PartialEq, Message)]
struct LogFormat {
    #[prost(message, optional, tag = "2")]
    json_format: Option<JsonFormat>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
struct JsonFormat {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, protobuf::Value>,
}
