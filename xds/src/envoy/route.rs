//! Builds the routes of a Service's HTTP port: a RouteConfiguration with one virtual host for every host name.
//!
//! A change of weights changes nothing else. Does not decide access: an answer of 403 comes from the server's proxy
//! (`rbac`), or from the virtual listener for Services that a proxy does not see.

use std::collections::BTreeSet;

use envoy_types::pb::{
    envoy::config::route::v3::{
        DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
        WeightedCluster, route, route_action, route_action::MaxStreamDuration, route_match::PathSpecifier,
        weighted_cluster::ClusterWeight,
    },
    xds::r#type::matcher::v3::{
        Matcher,
        matcher::{
            MatcherList, MatcherType, OnMatch,
            matcher_list::{FieldMatcher, Predicate},
            on_match,
        },
    },
};

use super::{names, predicate, retry, wire};
use crate::mesh::{
    id::ServiceId,
    matches::Matches,
    route::{Backend, RouteRule, scale_weights},
};

/// Header that carries the request's normalised path without its query from before a route is chosen (`request::early`)
/// to the choice, and no further: the route removes it. Older proxies cannot choose by filter state.
pub const PATH_HEADER: &str = "x-smidge-path";

/// Builds the route of a Service's port. The last rule has no matches, and applies to all other requests.
pub fn service(service: &ServiceId, port: u16, exact: bool, rules: &[RouteRule]) -> RouteConfiguration {
    let to = |rule: &RouteRule| all(action(service, port, exact, &rule.backends));
    let name = names::service_port(service, port);
    let rest = rules.iter().find(|rule| rule.matches.is_none());
    let matchers: Vec<FieldMatcher> = rules
        .iter()
        .take_while(|rule| rule.matches.is_some())
        .filter_map(|rule| {
            Some(FieldMatcher { predicate: Some(demand(rule)?), on_match: Some(on_match(&to(rule))) })
        })
        .collect();
    let host = if matchers.is_empty() {
        VirtualHost { routes: rest.map(to).into_iter().collect(), ..VirtualHost::default() }
    } else {
        let matcher = Matcher {
            on_no_match: rest.map(|rule| Box::new(on_match(&to(rule)))),
            matcher_type: Some(MatcherType::MatcherList(MatcherList { matchers })),
        };
        VirtualHost { matcher: Some(matcher), ..VirtualHost::default() }
    };
    // The number of the attempt is read by the statistics of traffic, and removed by the server's proxy.
    let host = VirtualHost { include_request_attempt_count: true, ..host };
    RouteConfiguration {
        request_headers_to_remove: vec![PATH_HEADER.to_owned()],
        response_headers_to_remove: vec![retry::MARK.to_owned()],
        ..by_host(&name, host)
    }
}

/// Builds the predicate of a rule with matches; `None` for a rule that nothing can match.
fn demand(rule: &RouteRule) -> Option<Predicate> {
    let all: BTreeSet<_> = rule.matches.iter().flatten().flat_map(Matches::iter).collect();
    let demands = all.into_iter().map(|it| {
        let path = || predicate::header(PATH_HEADER);
        predicate::request(it, path).unwrap_or_else(predicate::always)
    });
    predicate::any(demands.collect())
}

fn on_match(route: &Route) -> OnMatch {
    OnMatch {
        on_match: Some(on_match::OnMatch::Action(wire::match_extension("route", route.clone()))),
        ..OnMatch::default()
    }
}

/// Builds the route of every request to one cluster, for the inbound side.
pub fn inbound() -> RouteConfiguration {
    let action = route::Action::Route(RouteAction {
        retry_policy: Some(retry::of_workload()),
        ..to(route_action::ClusterSpecifier::Cluster(names::INBOUND.to_owned()))
    });
    RouteConfiguration {
        response_headers_to_remove: vec![retry::MARK.to_owned()],
        ..configuration(names::INBOUND, vec![all(action)])
    }
}

/// Builds a configuration without a route.
pub fn none(name: &str) -> RouteConfiguration {
    configuration(name, Vec::new())
}

fn configuration(name: &str, routes: Vec<Route>) -> RouteConfiguration {
    by_host(name, VirtualHost { routes, ..VirtualHost::default() })
}

/// Builds a configuration with one virtual host for every name.
fn by_host(name: &str, host: VirtualHost) -> RouteConfiguration {
    let host = VirtualHost { name: "*".to_owned(), domains: vec!["*".to_owned()], ..host };
    RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host], ..RouteConfiguration::default() }
}

fn all(action: route::Action) -> Route {
    Route { r#match: Some(everything()), action: Some(action), ..Route::default() }
}

fn everything() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() }
}

fn direct(status: u32, text: &str) -> route::Action {
    route::Action::DirectResponse(DirectResponseAction {
        status,
        body: Some(wire::inline(format!("{text}\n"))),
        ..DirectResponseAction::default()
    })
}

fn action(service: &ServiceId, port: u16, exact: bool, backends: &[Backend]) -> route::Action {
    let weights = weights(backends);
    if weights.iter().all(|weight| *weight == 0) {
        let text = if backends.is_empty() { "has no backend" } else { "has only backends of weight 0" };
        return direct(503, &format!("no backend: port {port} of {service} {text}"));
    }
    let cluster = |backend: &Backend| names::backend(service, port, exact, backend);
    let specifier = match backends {
        [backend] => route_action::ClusterSpecifier::Cluster(cluster(backend)),
        _ => route_action::ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: backends
                .iter()
                .zip(weights)
                .map(|(backend, weight)| ClusterWeight {
                    name: cluster(backend),
                    weight: wire::number(weight),
                    ..ClusterWeight::default()
                })
                .collect(),
            ..WeightedCluster::default()
        }),
    };
    route::Action::Route(RouteAction { retry_policy: Some(retry::of_caller()), ..to(specifier) })
}

/// Returns the weights for Envoy: their sum must fit 32 bits.
pub fn weights(backends: &[Backend]) -> Vec<u32> {
    scale_weights(backends.iter().map(|backend| u64::from(backend.weight)))
}

fn to(specifier: route_action::ClusterSpecifier) -> RouteAction {
    RouteAction {
        // The caller decides the time limit of a request; Envoy's 15 s would cut streams.
        timeout: wire::seconds(0),
        // That of gRPC is in its header. At it, servers end a stream with a reset, which would reach the caller as
        // UNAVAILABLE if it came before its own timer.
        max_stream_duration: Some(MaxStreamDuration {
            grpc_timeout_header_max: wire::seconds(0),
            ..MaxStreamDuration::default()
        }),
        cluster_specifier: Some(specifier),
        ..RouteAction::default()
    }
}
