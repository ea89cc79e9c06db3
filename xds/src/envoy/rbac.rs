//! Grants as role-based access control of one inbound port, served over ECDS so that a change closes nothing.
//!
//! Uses Envoy's matcher API, one matcher for each grant: its header input sees repeated header lines as one value,
//! where the classic header matcher takes them one by one and lets a forged one through. Patterns were judged in
//! `operator::lower`; what Envoy would refuse does not get here.

use envoy_types::pb::{
    envoy::{
        config::rbac::v3::{self as rbac, Action},
        extensions::{
            filters::{http::rbac::v3 as http, network::rbac::v3 as network},
            matching::common_inputs::{network::v3::FilterStateInput, ssl::v3::UriSanInput},
        },
        r#type::matcher::v3::HttpRequestHeaderMatchInput,
    },
    xds::{
        core::v3::TypedExtensionConfig,
        r#type::matcher::v3::{
            Matcher, RegexMatcher, StringMatcher,
            matcher::{
                MatcherList, MatcherType, OnMatch,
                matcher_list::{
                    FieldMatcher, Predicate,
                    predicate::{MatchType, PredicateList, SinglePredicate, single_predicate},
                },
                on_match,
            },
            regex_matcher::{EngineType, GoogleRe2},
            string_matcher::MatchPattern,
        },
    },
};

use super::wire;
use crate::mesh::{
    access::{Grant, HttpMatch, PathEnd, PathRegex, Payload},
    id::SpiffeId,
};

/// The filter state that holds the request's normalised path without its query (`filter::path_state` sets it).
pub const PATH_STATE: &str = "smidge.path";

/// The rules of one inbound port.
#[derive(Debug, Clone, Copy)]
pub enum Rules<'a> {
    /// Everybody may do everything.
    AllowAll,
    /// Only what one of the grants allows; they are looked at for this port.
    Only(&'a [Grant], u16),
}

/// The rules of an HTTP port.
pub fn http(rules: Rules) -> http::Rbac {
    match rules {
        Rules::AllowAll => http::Rbac::default(),
        Rules::Only(grants, port) => match matcher(grants, port, http_predicate) {
            Some(matcher) => http::Rbac { matcher: Some(matcher), ..http::Rbac::default() },
            None => http_denial(),
        },
    }
}

/// The rules of a TCP port.
pub fn network(rules: Rules) -> network::Rbac {
    let stat_prefix = "inbound".to_owned();
    match rules {
        Rules::AllowAll => network::Rbac { stat_prefix, ..network::Rbac::default() },
        Rules::Only(grants, port) => match matcher(grants, port, tcp_predicate) {
            Some(matcher) => {
                network::Rbac { stat_prefix, matcher: Some(matcher), ..network::Rbac::default() }
            }
            None => network_denial(),
        },
    }
}

/// Nobody may do anything over HTTP: rules without a policy.
pub fn http_denial() -> http::Rbac {
    http::Rbac { rules: Some(rbac::Rbac::default()), ..http::Rbac::default() }
}

/// Nobody may connect.
pub fn network_denial() -> network::Rbac {
    network::Rbac {
        stat_prefix: "inbound".to_owned(),
        rules: Some(rbac::Rbac::default()),
        ..network::Rbac::default()
    }
}

/// The pattern as one that must match the whole path. The user's text is grouped, never looked into.
pub fn path_pattern(path: &PathRegex) -> String {
    let PathRegex { pattern, end } = path;
    match end {
        PathEnd::Open => format!("(?:{pattern}).*"),
        PathEnd::Closed => format!("(?:{pattern})"),
    }
}

/// `None` if the port has no grant, as an empty list is one that Envoy refuses.
fn matcher(grants: &[Grant], port: u16, predicate: fn(&Grant) -> Option<Predicate>) -> Option<Matcher> {
    // The order of grants means nothing, so it must not reach the bytes either.
    let mut here: Vec<&Grant> = grants.iter().filter(|grant| grant.ports.contains(port)).collect();
    here.sort();
    let matchers: Vec<FieldMatcher> = here
        .into_iter()
        .filter_map(|grant| {
            Some(FieldMatcher { predicate: Some(predicate(grant)?), on_match: Some(allow(grant)) })
        })
        .collect();
    (!matchers.is_empty()).then_some(Matcher {
        matcher_type: Some(MatcherType::MatcherList(MatcherList { matchers })),
        on_no_match: None,
    })
}

fn tcp_predicate(grant: &Grant) -> Option<Predicate> {
    match grant.payload {
        Payload::Any => principals(grant),
        Payload::Http(_) => None,
    }
}

fn http_predicate(grant: &Grant) -> Option<Predicate> {
    let principals = principals(grant)?;
    let matches = match &grant.payload {
        Payload::Any => return Some(principals),
        Payload::Http(matches) => matches,
    };
    if matches.iter().any(|it| request(it).is_none()) {
        return Some(principals);
    }
    let any = any(matches.iter().filter_map(request).collect())?;
    all(vec![principals, any])
}

fn principals(grant: &Grant) -> Option<Predicate> {
    any(grant.sources.iter().map(principal).collect())
}

fn principal(source: &SpiffeId) -> Predicate {
    let input = wire::match_extension("envoy.matching.inputs.uri_san", UriSanInput {});
    single(input, MatchPattern::Exact(source.to_string()))
}

/// What a match demands of a request; `None` if it demands nothing.
fn request(it: &HttpMatch) -> Option<Predicate> {
    let HttpMatch { name: _, path, methods, headers } = it;
    let mut all_of = Vec::new();
    if let Some(path) = path {
        let state = FilterStateInput { key: PATH_STATE.to_owned(), ..FilterStateInput::default() };
        let input = wire::match_extension("envoy.matching.inputs.filter_state", state);
        all_of.push(single(input, regex(path_pattern(path))));
    }
    if let Some(methods) = methods {
        let method = |method: &String| single(header(":method"), MatchPattern::Exact(method.clone()));
        all_of.push(any(methods.iter().map(method).collect()).unwrap_or_else(never));
    }
    all_of.extend(headers.iter().map(|(name, pattern)| single(header(name), regex(pattern.clone()))));
    all(all_of)
}

/// A predicate that no request meets: methods are never empty.
fn never() -> Predicate {
    single(header(":method"), MatchPattern::Exact(String::new()))
}

fn header(name: &str) -> TypedExtensionConfig {
    let input = HttpRequestHeaderMatchInput { header_name: name.to_owned() };
    wire::match_extension("envoy.matching.inputs.request_headers", input)
}

fn regex(regex: String) -> MatchPattern {
    MatchPattern::SafeRegex(RegexMatcher { regex, engine_type: Some(EngineType::GoogleRe2(GoogleRe2 {})) })
}

fn single(input: TypedExtensionConfig, pattern: MatchPattern) -> Predicate {
    let value = StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() };
    predicate(MatchType::SinglePredicate(SinglePredicate {
        input: Some(input),
        matcher: Some(single_predicate::Matcher::ValueMatch(value)),
    }))
}

fn any(list: Vec<Predicate>) -> Option<Predicate> {
    combine(list, MatchType::OrMatcher)
}

fn all(list: Vec<Predicate>) -> Option<Predicate> {
    combine(list, MatchType::AndMatcher)
}

/// Envoy refuses a list of fewer than two.
fn combine(mut list: Vec<Predicate>, combined: fn(PredicateList) -> MatchType) -> Option<Predicate> {
    if list.len() > 1 { Some(predicate(combined(PredicateList { predicate: list }))) } else { list.pop() }
}

fn predicate(match_type: MatchType) -> Predicate {
    Predicate { match_type: Some(match_type) }
}

fn allow(grant: &Grant) -> OnMatch {
    let action = Action { name: grant.name.clone(), action: rbac::rbac::Action::Allow as i32 };
    OnMatch {
        on_match: Some(on_match::OnMatch::Action(wire::match_extension("allow", action))),
        ..OnMatch::default()
    }
}
