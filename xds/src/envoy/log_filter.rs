//! Builds the conditions under which an access logger is called.
//!
//! Used by `access_log`, `audit` and `traffic`. Envoy calls a logger at several times of a call, so each needs a condition on the time.

use envoy_types::pb::envoy::{
    config::{
        accesslog::v3::{
            AccessLogFilter, AndFilter, ComparisonFilter, ExtensionFilter, GrpcStatusFilter, HeaderFilter,
            LogTypeFilter, MetadataFilter, OrFilter, ResponseFlagFilter, RuntimeFilter, StatusCodeFilter,
            access_log_filter::FilterSpecifier, comparison_filter, extension_filter, grpc_status_filter,
        },
        core::v3::RuntimeUInt32,
        route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
    },
    data::accesslog::v3::AccessLogType,
    extensions::access_loggers::filters::cel::v3::ExpressionFilter,
    r#type::{
        matcher::v3::{
            MetadataMatcher, StringMatcher, ValueMatcher,
            metadata_matcher::{PathSegment, path_segment},
            string_matcher, value_matcher,
        },
        v3::{FractionalPercent, fractional_percent},
    },
};

use super::wire;
use crate::mesh::settings::Share;

/// Matches calls of the logger at this time.
pub fn of_type(kind: AccessLogType) -> AccessLogFilter {
    filter(FilterSpecifier::LogTypeFilter(LogTypeFilter { types: vec![kind as i32], exclude: false }))
}

/// Matches what all of these match.
pub fn all(filters: Vec<AccessLogFilter>) -> AccessLogFilter {
    filter(FilterSpecifier::AndFilter(AndFilter { filters }))
}

/// Matches what one of these matches.
pub fn any(filters: Vec<AccessLogFilter>) -> AccessLogFilter {
    filter(FilterSpecifier::OrFilter(OrFilter { filters }))
}

/// Matches requests to which a server has sent a status.
pub fn has_status() -> AccessLogFilter {
    status(comparison_filter::Op::Ge, 1, "smidge.answered")
}

/// Matches requests to which no server has sent a status.
pub fn has_no_status() -> AccessLogFilter {
    status(comparison_filter::Op::Eq, 0, "smidge.unanswered")
}

/// Matches requests that were answered with a status from 500 on.
pub fn is_server_error() -> AccessLogFilter {
    status(comparison_filter::Op::Ge, 500, "smidge.server_error")
}

/// Matches requests of gRPC that failed by the fault of the server, as statistics of traffic judge them.
pub fn is_grpc_error() -> AccessLogFilter {
    use grpc_status_filter::Status::{
        DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown,
    };
    let errors = [Unknown, DeadlineExceeded, Unimplemented, Internal, Unavailable, DataLoss];
    let statuses = errors.map(|status| status as i32).to_vec();
    // Envoy infers a status of other requests from theirs.
    let is_grpc = HeaderMatcher {
        name: "content-type".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(string_matcher::MatchPattern::Prefix("application/grpc".to_owned())),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    };
    all(vec![
        filter(FilterSpecifier::HeaderFilter(HeaderFilter { header: Some(is_grpc) })),
        filter(FilterSpecifier::GrpcStatusFilter(GrpcStatusFilter { statuses, exclude: false })),
    ])
}

/// Matches calls that did not end as usual, by Envoy's flags.
pub fn has_flag() -> AccessLogFilter {
    filter(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags: Vec::new() }))
}

/// Matches connections for which a listener has no chain.
pub fn has_no_chain() -> AccessLogFilter {
    filter(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags: vec!["NR".to_owned()] }))
}

/// Matches this share of all calls. Envoy would decide by the request's id, which callers choose, if it could.
pub fn sample(share: Share) -> AccessLogFilter {
    let percent = FractionalPercent {
        numerator: share.millionths(),
        denominator: fractional_percent::DenominatorType::Million as i32,
    };
    filter(FilterSpecifier::RuntimeFilter(RuntimeFilter {
        runtime_key: "smidge.access_log_sample".to_owned(),
        percent_sampled: Some(percent),
        use_independent_randomness: true,
    }))
}

/// Matches calls whose attributes meet an expression of CEL. An attribute that a call does not have meets none.
pub fn meets(expression: &str) -> AccessLogFilter {
    let config = ExpressionFilter { expression: expression.to_owned(), cel_config: None };
    filter(FilterSpecifier::ExtensionFilter(ExtensionFilter {
        name: "envoy.access_loggers.extension_filters.cel".to_owned(),
        config_type: Some(extension_filter::ConfigType::TypedConfig(wire::any(&config))),
    }))
}

fn status(op: comparison_filter::Op, status: u32, key: &str) -> AccessLogFilter {
    let value = RuntimeUInt32 { default_value: status, runtime_key: key.to_owned() };
    let comparison = ComparisonFilter { op: op as i32, value: Some(value) };
    filter(FilterSpecifier::StatusCodeFilter(StatusCodeFilter { comparison: Some(comparison) }))
}

/// Matches calls to whose metadata the filter `of` has added this decision of access control under `key`, and, if
/// `or_none`, those without any.
pub fn decision(of: &str, key: &str, decision: &str, or_none: bool) -> AccessLogFilter {
    let key = path_segment::Segment::Key(key.to_owned());
    let decision = StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::Exact(decision.to_owned())),
        ..StringMatcher::default()
    };
    let value = ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::StringMatch(decision)) };
    filter(FilterSpecifier::MetadataFilter(MetadataFilter {
        matcher: Some(MetadataMatcher {
            filter: of.to_owned(),
            path: vec![PathSegment { segment: Some(key) }],
            value: Some(value),
            // Envoy does not read it here.
            invert: false,
        }),
        match_if_key_not_found: wire::flag(or_none),
    }))
}

/// Wraps a condition.
pub fn filter(specifier: FilterSpecifier) -> AccessLogFilter {
    AccessLogFilter { filter_specifier: Some(specifier) }
}
