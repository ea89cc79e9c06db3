//! Builds the retries of both sides: which requests go to the workload again, and which ones to another workload.
//!
//! The caller's proxy cannot know how far a request came behind the server's proxy. So the server's proxy marks its own
//! answer if the request may be executed elsewhere, and the caller's proxy obeys the mark (docs/design/030). Does not
//! choose the other endpoint: that is the cluster's load balancing, without those that were tried.

use envoy_types::pb::envoy::{
    config::{
        accesslog::v3::{
            AccessLogFilter, ComparisonFilter, ResponseFlagFilter, StatusCodeFilter,
            access_log_filter::FilterSpecifier, comparison_filter,
        },
        core::v3::{HeaderValue, HeaderValueOption, RuntimeUInt32, header_value_option::HeaderAppendAction},
        route::v3::{
            HeaderMatcher, RetryPolicy,
            header_matcher::HeaderMatchSpecifier,
            retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate::ConfigType},
        },
    },
    extensions::{
        filters::{
            common::set_filter_state::v3::{FilterStateValue, filter_state_value},
            network::http_connection_manager::v3::ResponseMapper,
        },
        retry::host::previous_hosts::v3::PreviousHostsPredicate,
    },
};

use super::{
    log_filter::{all, any, filter, meets},
    wire,
};

/// Header of an answer by which the workload's proxy asks for another attempt elsewhere. Routes of both sides remove it
/// from what a server sends, so that no application can set it and none can see it.
pub const MARK: &str = "x-smidge-retry";

/// Number of further attempts at a request.
const RETRIES: u32 = 2;

/// Maximum number of endpoints that are drawn for a further attempt until one was not tried yet. Of two endpoints the one
/// that just failed is drawn with a probability of 3/4, as it has fewer requests: not in 60 draws in a row.
const DRAWS: i64 = 60;

/// The number of the attempt as the caller's proxy states it; empty for other callers.
const ATTEMPT_STATE: &str = "smidge.attempt";

/// Methods that change nothing at a server (RFC 9110, section 9.2.1), as a list of CEL.
const SAFE: &str = "['GET', 'HEAD', 'OPTIONS', 'TRACE']";

/// Builds the policy of the caller's side. In none of these cases has the request reached the workload, unless the server's
/// proxy states that it may be executed again.
pub fn of_caller() -> RetryPolicy {
    let on = "connect-failure,refused-stream,reset-before-request,retriable-headers";
    RetryPolicy {
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(ConfigType::TypedConfig(wire::any(&PreviousHostsPredicate {}))),
        }],
        host_selection_retry_max_attempts: DRAWS,
        retriable_headers: vec![HeaderMatcher {
            name: MARK.to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
            ..HeaderMatcher::default()
        }],
        ..policy(on, RETRIES, 5)
    }
}

/// Builds the policy of the server's side, which has one endpoint.
pub fn of_workload() -> RetryPolicy {
    // The workload may close an idle connection just as a request is about to be written to it.
    policy("reset-before-request,refused-stream", 1, 1)
}

/// Builds a policy whose first delay is at most `delay` milliseconds: a body that outgrows the buffer meanwhile is lost.
fn policy(on: &str, times: u32, delay: i32) -> RetryPolicy {
    RetryPolicy {
        retry_on: on.to_owned(),
        num_retries: wire::number(times),
        retry_back_off: Some(RetryBackOff { base_interval: wire::milliseconds(delay), max_interval: None }),
        ..RetryPolicy::default()
    }
}

/// Builds the state that keeps the number of the attempt, before its header is removed.
pub fn attempt_state() -> FilterStateValue {
    FilterStateValue {
        key: Some(filter_state_value::Key::ObjectKey(ATTEMPT_STATE.to_owned())),
        factory_key: "envoy.string".to_owned(),
        value: Some(filter_state_value::Value::FormatString(wire::format("%REQ(X-ENVOY-ATTEMPT-COUNT)%"))),
        ..FilterStateValue::default()
    }
}

/// Builds the marks of the server's side, for callers whose proxy obeys them. The last attempt has none.
pub fn marks() -> [ResponseMapper; 3] {
    let refused = "response.code_details.startsWith('upstream_reset_before_response_started{remote_refused_stream_reset')";
    // Without a connection nothing was sent; a stream that a server refuses was not processed (RFC 9113, section 8.7).
    let unserved = |how| all(vec![how, meets(&format!("filter_state['{ATTEMPT_STATE}'] in [b'1', b'2']"))]);
    let unsent = unserved(any(vec![flag("UF"), meets(refused)]));
    let outgrown = unserved(filter(outgrown()));
    // The connection ended without an answer: once more, as a request that ends its server ends another one at most.
    let safe = all(vec![
        flag("UC"),
        meets(&format!("filter_state['{ATTEMPT_STATE}'] == b'1' && request.method in {SAFE}")),
    ]);
    [mark(unsent), ResponseMapper { status_code: wire::number(503), ..mark(outgrown) }, mark(safe)]
}

/// Matches the answer to a request whose body outgrew the buffer between two attempts.
pub fn outgrown() -> FilterSpecifier {
    FilterSpecifier::StatusCodeFilter(StatusCodeFilter {
        comparison: Some(ComparisonFilter {
            op: comparison_filter::Op::Eq as i32,
            value: Some(RuntimeUInt32 { default_value: 507, runtime_key: "smidge.outgrown".to_owned() }),
        }),
    })
}

fn mark(of: AccessLogFilter) -> ResponseMapper {
    let option = HeaderValueOption {
        header: Some(HeaderValue { key: MARK.to_owned(), value: "1".to_owned(), ..HeaderValue::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..HeaderValueOption::default()
    };
    ResponseMapper { filter: Some(of), headers_to_add: vec![option], ..ResponseMapper::default() }
}

fn flag(flag: &str) -> AccessLogFilter {
    filter(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags: vec![flag.to_owned()] }))
}
