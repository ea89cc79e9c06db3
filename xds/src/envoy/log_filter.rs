//! Builds the conditions under which an access logger is called.
//!
//! Used by `audit` and `traffic`. Envoy calls a logger at several times of a call, so each needs a condition on the time.

use envoy_types::pb::envoy::{
    config::{
        accesslog::v3::{
            AccessLogFilter, AndFilter, ComparisonFilter, LogTypeFilter, MetadataFilter, OrFilter,
            StatusCodeFilter, access_log_filter::FilterSpecifier, comparison_filter,
        },
        core::v3::RuntimeUInt32,
    },
    data::accesslog::v3::AccessLogType,
    r#type::matcher::v3::{
        MetadataMatcher, StringMatcher, ValueMatcher,
        metadata_matcher::{PathSegment, path_segment},
        string_matcher, value_matcher,
    },
};

use super::wire;

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
    let value = RuntimeUInt32 { default_value: 1, runtime_key: "smidge.answered".to_owned() };
    let comparison = ComparisonFilter { op: comparison_filter::Op::Ge as i32, value: Some(value) };
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
