//! Grants as role-based access control of one inbound port, served over ECDS so that a change closes nothing.
//!
//! Uses Envoy's matcher API, one matcher for each grant. What a match demands of a request is `predicate`'s to say.

use std::{collections::BTreeSet, sync::Arc};

use envoy_types::pb::{
    envoy::{
        config::rbac::v3::{self as rbac, Action},
        extensions::{
            filters::{http::rbac::v3 as http, network::rbac::v3 as network},
            matching::common_inputs::{network::v3::FilterStateInput, ssl::v3::UriSanInput},
        },
    },
    xds::{
        core::v3::TypedExtensionConfig,
        r#type::matcher::v3::{
            Matcher,
            matcher::{
                MatcherList, MatcherType, OnMatch,
                matcher_list::{FieldMatcher, Predicate},
                on_match,
            },
            string_matcher::MatchPattern,
        },
    },
};

use super::{predicate, wire};
use crate::mesh::{
    access::{Grant, Payload},
    id::SpiffeId,
};

/// The filter state that holds the request's normalised path without its query (`filter::path_state` sets it).
pub const PATH_STATE: &str = "smidge.path";

/// The rules of one inbound port.
#[derive(Debug, Clone, Copy)]
pub enum Rules<'a> {
    /// Everybody may do everything.
    AllowAll,
    /// Everybody may do everything, and what none of the grants allows is told; they are looked at for this port.
    Audit(&'a [Arc<Grant>], u16),
    /// Only what one of the grants allows; they are looked at for this port.
    Only(&'a [Arc<Grant>], u16),
}

/// The rules of an HTTP port.
pub fn http(rules: Rules) -> http::Rbac {
    match rules {
        Rules::AllowAll => http::Rbac::default(),
        Rules::Audit(grants, port) => {
            http::Rbac { shadow_matcher: Some(shadow(grants, port, http_predicate)), ..http::Rbac::default() }
        }
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
        Rules::Audit(grants, port) => network::Rbac {
            stat_prefix,
            shadow_matcher: Some(shadow(grants, port, tcp_predicate)),
            ..network::Rbac::default()
        },
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

/// `None` if the port has no grant, as an empty list is one that Envoy refuses.
fn matcher(grants: &[Arc<Grant>], port: u16, demand: fn(&Grant) -> Option<Predicate>) -> Option<Matcher> {
    // The order of grants means nothing, so it must not reach the bytes either.
    let mut here: Vec<&Arc<Grant>> = grants.iter().filter(|grant| grant.ports.contains(port)).collect();
    here.sort();
    let matchers: Vec<FieldMatcher> = here
        .into_iter()
        .filter_map(|grant| {
            Some(FieldMatcher {
                predicate: Some(demand(grant)?),
                on_match: Some(decision(grant.name.clone(), rbac::rbac::Action::Allow)),
            })
        })
        .collect();
    (!matchers.is_empty()).then_some(Matcher {
        matcher_type: Some(MatcherType::MatcherList(MatcherList { matchers })),
        on_no_match: None,
    })
}

/// As `matcher`; what nothing matches bears the names of the grants that were asked, for the log (`audit`).
fn shadow(grants: &[Arc<Grant>], port: u16, demand: fn(&Grant) -> Option<Predicate>) -> Matcher {
    let denial = decision(consulted(grants, port), rbac::rbac::Action::Deny);
    Matcher { on_no_match: Some(Box::new(denial)), ..matcher(grants, port, demand).unwrap_or_default() }
}

/// The names of the grants for a port, or so many of them as a line of a log can bear.
fn consulted(grants: &[Arc<Grant>], port: u16) -> String {
    const SHOWN: usize = 20;
    let names: BTreeSet<&str> =
        grants.iter().filter(|grant| grant.ports.contains(port)).map(|grant| grant.name.as_str()).collect();
    let mut shown: Vec<&str> = names.iter().copied().take(SHOWN).collect();
    if names.is_empty() {
        shown.push("none");
    } else if names.len() > SHOWN {
        shown.push("...");
    }
    shown.join(",")
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
    let mut demands = Vec::new();
    for it in matches {
        match predicate::request(it, path) {
            Some(demand) => demands.push(demand),
            // One that demands nothing is met by everything.
            None => return Some(principals),
        }
    }
    predicate::all(vec![principals, predicate::any(demands)?])
}

fn principals(grant: &Grant) -> Option<Predicate> {
    predicate::any(grant.sources.iter().map(principal).collect())
}

fn principal(source: &SpiffeId) -> Predicate {
    let input = wire::match_extension("envoy.matching.inputs.uri_san", UriSanInput {});
    predicate::single(input, MatchPattern::Exact(source.to_string()))
}

/// Where the request's normalised path without its query is.
fn path() -> TypedExtensionConfig {
    let state = FilterStateInput { key: PATH_STATE.to_owned(), ..FilterStateInput::default() };
    wire::match_extension("envoy.matching.inputs.filter_state", state)
}

fn decision(name: String, action: rbac::rbac::Action) -> OnMatch {
    let action = Action { name, action: action as i32 };
    OnMatch {
        on_match: Some(on_match::OnMatch::Action(wire::match_extension("decision", action))),
        ..OnMatch::default()
    }
}
