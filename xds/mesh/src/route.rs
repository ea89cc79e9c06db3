//! Routing of the traffic of a Service's port: rules in order, each with weighted backends.
//!
//! A TrafficSplit becomes one rule; a split with `matches` becomes two, one for the matches and one for the rest. A
//! route becomes a RouteConfiguration for HTTP and a weighted proxy for TCP. Does not decide which callers are
//! allowed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{id::ServiceId, matches::Matches};

/// Rules of one port, evaluated in order. The last one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The rules. TCP has exactly one, without matches.
    pub rules: Vec<RouteRule>,
    /// The TrafficSplit that the rules come from, as `namespace/name`; `None` for the Service's own endpoints. Used in
    /// explanations only, and never sent to Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
}

impl Route {
    /// Returns the route of all traffic to the Service's own endpoints.
    pub fn own(service: ServiceId) -> Self {
        Self { rules: vec![RouteRule::own(service)], split: None }
    }
}

/// Rule of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteRule {
    /// The matches, any of which is sufficient; `None` matches everything.
    pub matches: Option<BTreeSet<Matches>>,
    /// The backends of matching traffic, in the user's order. If the sum of their weights is 0, the traffic has no
    /// destination: 503, or a closed connection. Backends of weight 0 stay in the list, so that a change of weight
    /// moves no cluster.
    pub backends: Vec<Backend>,
}

impl RouteRule {
    /// Returns the rule that sends all traffic that no earlier rule matches to the Service's own endpoints.
    pub fn own(service: ServiceId) -> Self {
        Self { matches: None, backends: vec![Backend { service, port: None, weight: 1 }] }
    }
}

/// Service as the target of a rule: its own endpoints, with a share of the traffic. A backend is never split again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// The Service whose own endpoints serve the traffic.
    pub service: ServiceId,
    /// The port of the Service, where it differs from the port that was called: behind a headless Service a pod is
    /// called at its own port, and shares belong to the Service's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The share of the traffic, relative to the sum of the rule's weights.
    pub weight: u32,
}

impl Backend {
    /// Returns the port of the Service that serves a call to port `called`.
    pub fn port(&self, called: u16) -> u16 {
        self.port.unwrap_or(called)
    }
}
