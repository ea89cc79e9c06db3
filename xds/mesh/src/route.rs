//! Where the traffic of a Service's port goes: rules in order, each with weighted backends.
//!
//! A TrafficSplit becomes one rule; a split with `matches` becomes two, its own and the rest's. Becomes a RouteConfiguration for HTTP and
//! a weighted proxy for TCP. Says nothing about who may go there.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{id::ServiceId, matches::Matches};

/// The rules of one port, tried in order. The last one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The rules. TCP has exactly one, without matches.
    pub rules: Vec<RouteRule>,
    /// The object that made the rules, as `namespace/name`; `None` for the Service's own endpoints. Says why, and never
    /// reaches Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
}

impl Route {
    /// Everything to the Service's own endpoints.
    pub fn own(service: ServiceId) -> Self {
        Self { rules: vec![RouteRule::own(service)], split: None }
    }
}

/// One rule of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteRule {
    /// Any of these must match; `None` matches everything.
    pub matches: Option<BTreeSet<Matches>>,
    /// Where matching traffic goes, in the user's order. A sum of weights of 0 means nowhere: 503, or a closed
    /// connection. Backends of weight 0 stay in the list, so that a change of weight moves no cluster.
    pub backends: Vec<Backend>,
}

impl RouteRule {
    /// Whatever no earlier rule matches, to the Service's own endpoints.
    pub fn own(service: ServiceId) -> Self {
        Self { matches: None, backends: vec![Backend { service, port: None, weight: 1 }] }
    }
}

/// The own endpoints of a Service, with a share. A backend is never split again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// The Service whose own endpoints serve.
    pub service: ServiceId,
    /// Its port, where that is not the number that was called: behind a headless Service a pod is called by its own port,
    /// and shares belong to the Service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its share, relative to the sum of the rule's weights.
    pub weight: u32,
}

impl Backend {
    /// The port of its Service that serves a call to port `called`.
    pub fn port(&self, called: u16) -> u16 {
        self.port.unwrap_or(called)
    }
}
