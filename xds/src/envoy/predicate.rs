//! Turns the matches of SMI into predicates of Envoy's matcher API.
//!
//! Servers authorise by them (`rbac`) and clients route by them (`route`), so that both read a request alike. The
//! header input sees repeated header lines as one value, where Envoy's classic header matcher evaluates them one by one
//! and lets a forged one through. `operator::lower` checked the patterns; what Envoy would refuse does not get here.

use envoy_types::pb::{
    envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput,
    xds::{
        core::v3::TypedExtensionConfig,
        r#type::matcher::v3::{
            RegexMatcher, StringMatcher,
            matcher::matcher_list::{
                Predicate,
                predicate::{MatchType, PredicateList, SinglePredicate, single_predicate},
            },
            regex_matcher::{EngineType, GoogleRe2},
            string_matcher::MatchPattern,
        },
    },
};

use super::wire;
use crate::mesh::matches::{HttpMatch, PathEnd, PathRegex};

/// Builds the predicate of a match; `None` if it demands nothing. `path` builds the input that holds the normalised
/// path without its query: a pattern over the whole `:path` could be met by text in the query.
pub fn request(it: &HttpMatch, path: fn() -> TypedExtensionConfig) -> Option<Predicate> {
    let HttpMatch { name: _, path: pattern, methods, headers } = it;
    let mut all_of = Vec::new();
    if let Some(pattern) = pattern {
        all_of.push(single(path(), regex(path_pattern(pattern))));
    }
    if let Some(methods) = methods {
        let method = |method: &String| single(header(":method"), MatchPattern::Exact(method.clone()));
        all_of.push(any(methods.iter().map(method).collect()).unwrap_or_else(never));
    }
    all_of.extend(headers.iter().map(|(name, pattern)| single(header(name), regex(pattern.clone()))));
    all(all_of)
}

/// Returns the pattern as one that must match the whole path. The user's text is grouped, never parsed.
fn path_pattern(path: &PathRegex) -> String {
    let PathRegex { pattern, end } = path;
    match end {
        PathEnd::Open => format!("(?:{pattern}).*"),
        PathEnd::Closed => format!("(?:{pattern})"),
    }
}

/// Builds a predicate that no request meets: methods are never empty.
pub fn never() -> Predicate {
    single(header(":method"), MatchPattern::Exact(String::new()))
}

/// Builds a predicate that every request meets: each has a method.
pub fn always() -> Predicate {
    single(header(":method"), regex(".*".to_owned()))
}

/// Builds the input of all lines of a header, joined.
pub fn header(name: &str) -> TypedExtensionConfig {
    let input = HttpRequestHeaderMatchInput { header_name: name.to_owned() };
    wire::match_extension("envoy.matching.inputs.request_headers", input)
}

/// Builds the pattern of a regular expression. Envoy refuses an empty one, which to a user matches the empty value.
fn regex(regex: String) -> MatchPattern {
    let regex = if regex.is_empty() { "(?:)".to_owned() } else { regex };
    MatchPattern::SafeRegex(RegexMatcher { regex, engine_type: Some(EngineType::GoogleRe2(GoogleRe2 {})) })
}

/// Builds the predicate of one input and one pattern.
pub fn single(input: TypedExtensionConfig, pattern: MatchPattern) -> Predicate {
    let value = StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() };
    predicate(MatchType::SinglePredicate(SinglePredicate {
        input: Some(input),
        matcher: Some(single_predicate::Matcher::ValueMatch(value)),
    }))
}

/// Builds a predicate of which one part must hold; `None` for no part at all.
pub fn any(list: Vec<Predicate>) -> Option<Predicate> {
    combine(list, MatchType::OrMatcher)
}

/// Builds a predicate of which all parts must hold; `None` for no part at all.
pub fn all(list: Vec<Predicate>) -> Option<Predicate> {
    combine(list, MatchType::AndMatcher)
}

/// Combines at least two predicates, as Envoy refuses a shorter list; a single one is returned as it is.
fn combine(mut list: Vec<Predicate>, combined: fn(PredicateList) -> MatchType) -> Option<Predicate> {
    if list.len() > 1 { Some(predicate(combined(PredicateList { predicate: list }))) } else { list.pop() }
}

fn predicate(match_type: MatchType) -> Predicate {
    Predicate { match_type: Some(match_type) }
}
