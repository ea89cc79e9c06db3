//! Builds the log lines of a sidecar about calls that enforcement would refuse.
//!
//! Always in the listener, in every mode: they match the metadata that the rules (`rbac`, over ECDS) add to a call when
//! they judge without enforcing, so that a switch of modes changes rules alone.

use envoy_types::pb::envoy::{
    config::accesslog::v3::{
        AccessLog, AccessLogFilter, ComparisonFilter, DurationFilter, access_log,
        access_log_filter::FilterSpecifier, comparison_filter,
    },
    config::core::v3::RuntimeUInt32,
    data::accesslog::v3::AccessLogType,
    extensions::access_loggers::stream::v3::{StdoutAccessLog, stdout_access_log},
};

use super::{
    log_filter::{self, all, any, filter, of_type},
    wire,
};

const HTTP: &str = "envoy.filters.http.rbac";
const TCP: &str = "envoy.filters.network.rbac";

/// Time after which the line of an open TCP connection is written, in seconds; else only its end would write one.
pub const TCP_FLUSH_SECONDS: i64 = 10;

/// Builds the log of HTTP requests. The path comes last, as it is the caller's: whatever it contains, the fields before
/// it are the proxy's own. The query is left out.
pub fn http() -> AccessLog {
    let text = format!("{} method=%REQ(:METHOD)% path=%PATH(NQ:PATH)%\n", common(HTTP));
    log(&text, denied(HTTP))
}

/// Builds the log of TCP connections. A connection is judged by its first byte, so the line is written at its end, and
/// before that once if it goes on.
pub fn tcp() -> AccessLog {
    let at_end = of_type(AccessLogType::TcpConnectionEnd);
    let first = all(vec![of_type(AccessLogType::TcpPeriodic), shorter_than(TCP_FLUSH_SECONDS * 3 / 2)]);
    let text = format!("{} event=%ACCESS_LOG_TYPE%\n", common(TCP));
    log(&text, all(vec![denied(TCP), any(vec![at_end, first])]))
}

fn common(rbac: &str) -> String {
    format!(
        "smidge: audit: would be denied: source=%DOWNSTREAM_PEER_URI_SAN% destination=%DOWNSTREAM_LOCAL_URI_SAN% \
         port=%DOWNSTREAM_LOCAL_PORT% policies=%DYNAMIC_METADATA({rbac}:shadow_effective_policy_id)%"
    )
}

fn log(text: &str, filter: AccessLogFilter) -> AccessLog {
    let format = stdout_access_log::AccessLogFormat::LogFormat(wire::format(text));
    let config = StdoutAccessLog { access_log_format: Some(format) };
    AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        filter: Some(filter),
        config_type: Some(access_log::ConfigType::TypedConfig(wire::any(&config))),
    }
}

/// Matches calls that a filter would deny, by the metadata that it adds when it judges without enforcing.
fn denied(rbac: &str) -> AccessLogFilter {
    log_filter::decision(rbac, "shadow_engine_result", "denied", false)
}

fn shorter_than(seconds: i64) -> AccessLogFilter {
    let milliseconds = u32::try_from(seconds * 1000).unwrap_or(u32::MAX);
    let value =
        RuntimeUInt32 { default_value: milliseconds, runtime_key: "smidge.audit_patience".to_owned() };
    let comparison = ComparisonFilter { op: comparison_filter::Op::Le as i32, value: Some(value) };
    filter(FilterSpecifier::DurationFilter(DurationFilter { comparison: Some(comparison) }))
}
