//! Turns grants into role-based access control of one inbound port, over ECDS so that a change closes no connection.
//!
//! Uses Envoy's matcher API. Over TCP each grant is a matcher of its own. Over HTTP the matches of a group are in one
//! matcher with the callers of all grants that use them, so that a hundred TrafficTargets with one HTTPRouteGroup cost
//! a hundred targets and one group (docs/design/011). `predicate` defines what a match demands of a request.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
    matches::HttpMatch,
    matches::Matches,
};

/// The filter state that holds the request's normalised path without its query (`request::path_state` sets it).
pub const PATH_STATE: &str = "smidge.path";

/// Prefix of the metadata and of the statistics of the rules that name routes.
const ROUTE: &str = "route_";
/// The metadata that names the route of a request, in an access log; empty where no route is measured.
pub const ROUTE_STATE: &str = "%DYNAMIC_METADATA(envoy.filters.http.rbac:route_shadow_effective_policy_id)%";

/// The rules of one inbound port.
#[derive(Debug, Clone, Copy)]
pub enum Rules<'a> {
    /// Every caller may do everything.
    AllowAll,
    /// Every caller may do everything, and what none of the grants allows is logged; they are evaluated for this port.
    Audit(&'a [Arc<Grant>], u16),
    /// Only what one of the grants allows; they are evaluated for this port.
    Only(&'a [Arc<Grant>], u16),
}

/// Builds the rules of an HTTP port.
pub fn http(rules: Rules) -> http::Rbac {
    match rules {
        Rules::AllowAll => http::Rbac::default(),
        Rules::Audit(grants, port) => {
            http::Rbac { shadow_matcher: Some(shadow(grants, port, http_matchers)), ..http::Rbac::default() }
        }
        Rules::Only(grants, port) => match matcher(grants, port, http_matchers) {
            Some(matcher) => http::Rbac { matcher: Some(matcher), ..http::Rbac::default() },
            None => http_denial(),
        },
    }
}

/// Builds the rules that name the route of a request and refuse nothing: shadow rules, whose decision is the name of the
/// first match that the request meets. The metadata of the request has it under `ROUTE_STATE`.
pub fn routes<'a>(all: impl Iterator<Item = &'a Matches>) -> http::Rbac {
    let mut known = BTreeSet::new();
    let routes = all.flat_map(Matches::iter).filter(|it| known.insert(&it.name));
    let named = |it: &Arc<HttpMatch>| FieldMatcher {
        predicate: Some(predicate::request(it, path).unwrap_or_else(predicate::always)),
        on_match: Some(decision(it.name.clone(), rbac::rbac::Action::Allow)),
    };
    let matchers: Vec<FieldMatcher> = routes.map(named).collect();
    let shadow_matcher = (!matchers.is_empty()).then_some(Matcher {
        matcher_type: Some(MatcherType::MatcherList(MatcherList { matchers })),
        on_no_match: None,
    });
    http::Rbac { shadow_matcher, shadow_rules_stat_prefix: ROUTE.to_owned(), ..http::Rbac::default() }
}

/// Builds the rules of a TCP port.
pub fn network(rules: Rules) -> network::Rbac {
    let stat_prefix = "inbound".to_owned();
    match rules {
        Rules::AllowAll => network::Rbac { stat_prefix, ..network::Rbac::default() },
        Rules::Audit(grants, port) => network::Rbac {
            stat_prefix,
            shadow_matcher: Some(shadow(grants, port, tcp_matchers)),
            ..network::Rbac::default()
        },
        Rules::Only(grants, port) => match matcher(grants, port, tcp_matchers) {
            Some(matcher) => {
                network::Rbac { stat_prefix, matcher: Some(matcher), ..network::Rbac::default() }
            }
            None => network_denial(),
        },
    }
}

/// Builds the rules that deny every request over HTTP: rules without a policy.
pub fn http_denial() -> http::Rbac {
    http::Rbac { rules: Some(rbac::Rbac::default()), ..http::Rbac::default() }
}

/// Builds the rules that deny every connection.
pub fn network_denial() -> network::Rbac {
    network::Rbac {
        stat_prefix: "inbound".to_owned(),
        rules: Some(rbac::Rbac::default()),
        ..network::Rbac::default()
    }
}

/// Function that turns grants into matchers, each of which allows by itself.
type Matchers = fn(&[&Arc<Grant>]) -> Vec<FieldMatcher>;

/// Builds the matcher of a port; `None` if the port has no grant, as Envoy refuses an empty list.
fn matcher(grants: &[Arc<Grant>], port: u16, matchers: Matchers) -> Option<Matcher> {
    // The order of grants means nothing, so it must not reach the bytes either.
    let mut here: Vec<&Arc<Grant>> = grants.iter().filter(|grant| grant.ports.contains(port)).collect();
    here.sort();
    let matchers = matchers(&here);
    (!matchers.is_empty()).then_some(Matcher {
        matcher_type: Some(MatcherType::MatcherList(MatcherList { matchers })),
        on_no_match: None,
    })
}

/// Builds what `matcher` does; a call that nothing matches carries the names of the port's grants, for `audit`.
fn shadow(grants: &[Arc<Grant>], port: u16, matchers: Matchers) -> Matcher {
    let here = grants.iter().filter(|grant| grant.ports.contains(port));
    let denial = decision(names(here), rbac::rbac::Action::Deny);
    Matcher { on_no_match: Some(Box::new(denial)), ..matcher(grants, port, matchers).unwrap_or_default() }
}

/// Returns the names of grants, at most as many as a line of a log can hold.
fn names<'a>(grants: impl Iterator<Item = &'a Arc<Grant>>) -> String {
    const SHOWN: usize = 20;
    let names: BTreeSet<&str> = grants.map(|grant| &*grant.origin.name).collect();
    let mut shown: Vec<&str> = names.iter().copied().take(SHOWN).collect();
    if names.is_empty() {
        shown.push("none");
    } else if names.len() > SHOWN {
        shown.push("...");
    }
    shown.join(",")
}

fn tcp_matchers(grants: &[&Arc<Grant>]) -> Vec<FieldMatcher> {
    let any = grants.iter().copied().filter(|grant| grant.payload == Payload::Any);
    any.filter_map(|grant| Some(allow(&[grant], principals(&[grant])?))).collect()
}

/// Builds a matcher for each grant of any payload, and one for all matches that the same set of grants uses.
fn http_matchers(grants: &[&Arc<Grant>]) -> Vec<FieldMatcher> {
    // Keyed by position in the list, as positions are quick to compare.
    let mut users: BTreeMap<&Matches, Vec<usize>> = BTreeMap::new();
    for (place, grant) in grants.iter().enumerate() {
        let Payload::Http(matches) = &grant.payload else { continue };
        for them in matches {
            users.entry(them).or_default().push(place);
        }
    }
    let mut shared: BTreeMap<Vec<usize>, BTreeSet<&Arc<HttpMatch>>> = BTreeMap::new();
    for (matches, users) in users.into_iter().filter(|(matches, _)| !matches.is_empty()) {
        shared.entry(users).or_default().extend(matches.iter());
    }
    let mut matchers = tcp_matchers(grants);
    matchers.extend(shared.into_iter().filter_map(|(users, matches)| {
        let users: Vec<_> = users.iter().filter_map(|place| grants.get(*place).copied()).collect();
        // No caller must not mean every caller: without callers there is no matcher.
        let demands = std::iter::once(principals(&users)?).chain(requests(&matches));
        Some(allow(&users, predicate::all(demands.collect())?))
    }));
    matchers
}

/// Builds the predicate of which one match must hold; `None` if one of them demands nothing.
fn requests(matches: &BTreeSet<&Arc<HttpMatch>>) -> Option<Predicate> {
    let demands: Option<Vec<Predicate>> = matches.iter().map(|it| predicate::request(it, path)).collect();
    predicate::any(demands?)
}

fn allow(grants: &[&Arc<Grant>], predicate: Predicate) -> FieldMatcher {
    let name = names(grants.iter().copied());
    FieldMatcher { predicate: Some(predicate), on_match: Some(decision(name, rbac::rbac::Action::Allow)) }
}

fn principals(grants: &[&Arc<Grant>]) -> Option<Predicate> {
    let sources: BTreeSet<&SpiffeId> =
        grants.iter().flat_map(|grant| &grant.sources).map(|source| &**source).collect();
    predicate::any(sources.into_iter().map(principal).collect())
}

fn principal(source: &SpiffeId) -> Predicate {
    let input = wire::match_extension("envoy.matching.inputs.uri_san", UriSanInput {});
    predicate::single(input, MatchPattern::Exact(source.to_string()))
}

/// Builds the input that holds the request's normalised path without its query.
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
