//! What a request must be like, in the words of Envoy's matcher API: the matches of SMI as predicates.
//!
//! Servers judge by them (`rbac`) and clients route by them (`route`), so that both read a request alike. The header
//! input sees repeated header lines as one value, where Envoy's classic header matcher takes them one by one and lets
//! a forged one through. Patterns were judged in `operator::lower`; what Envoy would refuse does not get here.

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

/// What a match demands of a request; `None` if it demands nothing. `path` is where the normalised path without its
/// query is found: a pattern over the whole `:path` could be met by text in the query.
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

/// The pattern as one that must match the whole path. The user's text is grouped, never looked into.
fn path_pattern(path: &PathRegex) -> String {
    let PathRegex { pattern, end } = path;
    match end {
        PathEnd::Open => format!("(?:{pattern}).*"),
        PathEnd::Closed => format!("(?:{pattern})"),
    }
}

/// A predicate that no request meets: methods are never empty.
pub fn never() -> Predicate {
    single(header(":method"), MatchPattern::Exact(String::new()))
}

/// A predicate that every request meets: none is without a method.
pub fn always() -> Predicate {
    single(header(":method"), regex(".*".to_owned()))
}

/// All lines of a header, joined.
pub fn header(name: &str) -> TypedExtensionConfig {
    let input = HttpRequestHeaderMatchInput { header_name: name.to_owned() };
    wire::match_extension("envoy.matching.inputs.request_headers", input)
}

/// Envoy refuses a pattern without text, which to a user is one that matches the empty value.
fn regex(regex: String) -> MatchPattern {
    let regex = if regex.is_empty() { "(?:)".to_owned() } else { regex };
    MatchPattern::SafeRegex(RegexMatcher { regex, engine_type: Some(EngineType::GoogleRe2(GoogleRe2 {})) })
}

/// One input against one pattern.
pub fn single(input: TypedExtensionConfig, pattern: MatchPattern) -> Predicate {
    let value = StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() };
    predicate(MatchType::SinglePredicate(SinglePredicate {
        input: Some(input),
        matcher: Some(single_predicate::Matcher::ValueMatch(value)),
    }))
}

/// One of them must hold; `None` for no predicate at all.
pub fn any(list: Vec<Predicate>) -> Option<Predicate> {
    combine(list, MatchType::OrMatcher)
}

/// All of them must hold; `None` for no predicate at all.
pub fn all(list: Vec<Predicate>) -> Option<Predicate> {
    combine(list, MatchType::AndMatcher)
}

/// Envoy refuses a list of fewer than two.
fn combine(mut list: Vec<Predicate>, combined: fn(PredicateList) -> MatchType) -> Option<Predicate> {
    if list.len() > 1 { Some(predicate(combined(PredicateList { predicate: list }))) } else { list.pop() }
}

fn predicate(match_type: MatchType) -> Predicate {
    Predicate { match_type: Some(match_type) }
}
