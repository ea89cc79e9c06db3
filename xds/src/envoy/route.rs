//! Where the requests of a Service's HTTP port go: a RouteConfiguration with one virtual host for every host name.
//!
//! A change of weights changes nothing else. Says nothing about who may go there: an answer of 403 comes from the
//! server's proxy (`rbac`), or from the virtual listener for what a proxy does not see.

use envoy_types::pb::envoy::{
    config::route::v3::{
        DirectResponseAction, HeaderMatcher, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch,
        VirtualHost, WeightedCluster, header_matcher::HeaderMatchSpecifier, retry_policy, route,
        route_action, route_match::PathSpecifier, weighted_cluster::ClusterWeight,
    },
    extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate,
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};

use super::{names, rbac, wire};
use crate::mesh::{
    access::HttpMatch,
    id::ServiceId,
    route::{Backend, RouteRule},
};

/// The route of a Service's port.
pub fn service(service: &ServiceId, port: u16, exact: bool, rules: &[RouteRule]) -> RouteConfiguration {
    let routes = rules
        .iter()
        .flat_map(|rule| {
            let action = action(service, port, exact, &rule.backends);
            matches(rule.matches.as_deref()).into_iter().map(move |it| Route {
                r#match: Some(it),
                action: Some(action.clone()),
                ..Route::default()
            })
        })
        .collect();
    configuration(&names::service_port(service, port), routes)
}

/// Every request to one cluster, for the inbound side.
pub fn inbound() -> RouteConfiguration {
    let action = route::Action::Route(RouteAction {
        // The workload may close an idle connection just as a request is about to be written to it.
        retry_policy: Some(retries("reset-before-request,refused-stream", 1)),
        ..to(route_action::ClusterSpecifier::Cluster(names::INBOUND.to_owned()))
    });
    configuration(names::INBOUND, vec![all(action)])
}

/// One answer to every request.
pub fn answer(name: &str, status: u32, text: &str) -> RouteConfiguration {
    configuration(name, vec![all(direct(status, text))])
}

fn configuration(name: &str, routes: Vec<Route>) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: "*".to_owned(),
            domains: vec!["*".to_owned()],
            routes,
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    }
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
        return direct(503, &format!("smidge: no backend: port {port} of {service} {text}"));
    }
    let cluster = |backend: &Backend| names::backend(service, port, exact, &backend.service);
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
    route::Action::Route(RouteAction {
        retry_policy: Some(RetryPolicy {
            retry_host_predicate: vec![retry_policy::RetryHostPredicate {
                name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
                config_type: Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(wire::any(
                    &PreviousHostsPredicate {},
                ))),
            }],
            host_selection_retry_max_attempts: 5,
            // None of these can have reached the workload, so that a repeated request is never a second one.
            ..retries("connect-failure,refused-stream,reset-before-request", 2)
        }),
        ..to(specifier)
    })
}

/// The weights as Envoy takes them: their sum must fit 32 bits. Zero stays zero and nothing else becomes it.
pub fn weights(backends: &[Backend]) -> Vec<u32> {
    let sum: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let divisor = sum.div_ceil(u64::from(u32::MAX) / 2).max(1);
    let scaled = |weight: u32| match divisor {
        1 => weight,
        _ => u32::try_from(u64::from(weight).div_ceil(divisor)).unwrap_or(u32::MAX),
    };
    backends.iter().map(|backend| scaled(backend.weight)).collect()
}

fn to(specifier: route_action::ClusterSpecifier) -> RouteAction {
    RouteAction {
        // How long a request may take is for the caller to say; Envoy's 15 s would cut streams.
        timeout: wire::seconds(0),
        cluster_specifier: Some(specifier),
        ..RouteAction::default()
    }
}

fn retries(on: &str, times: u32) -> RetryPolicy {
    RetryPolicy { retry_on: on.to_owned(), num_retries: wire::number(times), ..RetryPolicy::default() }
}

fn matches(matches: Option<&[HttpMatch]>) -> Vec<RouteMatch> {
    matches.map_or_else(|| vec![everything()], |matches| matches.iter().map(route_match).collect())
}

fn route_match(it: &HttpMatch) -> RouteMatch {
    let HttpMatch { name: _, path, methods, headers } = it;
    let methods = methods.iter().map(|methods| {
        let any: Vec<String> = methods.iter().map(|method| literal(method)).collect();
        header(":method", any.join("|"))
    });
    RouteMatch {
        path_specifier: Some(path.as_ref().map_or_else(
            || PathSpecifier::Prefix("/".to_owned()),
            |path| PathSpecifier::SafeRegex(wire::regex(rbac::path_pattern(path))),
        )),
        headers: methods.chain(headers.iter().map(|(name, pattern)| header(name, pattern.clone()))).collect(),
        ..RouteMatch::default()
    }
}

/// A method as an expression that matches it alone: `.` and `*` are letters of a method's name.
fn literal(method: &str) -> String {
    let escaped = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\x{{{:x}}}", u32::from(c)) }
    };
    method.chars().map(escaped).collect()
}

fn header(name: &str, pattern: String) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(wire::regex(pattern))),
            ..StringMatcher::default()
        })),
        ..HeaderMatcher::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(weights: &[u32]) -> Vec<u32> {
        let backend = |weight: &u32| Backend { service: ServiceId::new("a", "b"), weight: *weight };
        super::weights(&weights.iter().map(backend).collect::<Vec<_>>())
    }

    #[test]
    fn weights_keep_their_shares_and_their_zeros_when_their_sum_is_too_large() {
        assert_eq!(scaled(&[90, 10, 0]), [90, 10, 0]);
        let large = scaled(&[u32::MAX, u32::MAX, 1, 0]);
        assert!(u32::try_from(large.iter().map(|weight| u64::from(*weight)).sum::<u64>()).is_ok());
        assert_eq!(large[0], large[1]);
        assert_eq!(large[2..], [1, 0]);
    }
}
