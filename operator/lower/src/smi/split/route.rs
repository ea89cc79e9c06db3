//! Builds the route of a root's port from the splits in effect: one rule for each, and one for the rest.
//!
//! Called by `kubernetes::mesh_service` for each port. `shares` computes the share of each backend.

use smidge_mesh::{
    id::ServiceId,
    route::{Route, RouteRule},
    service::Protocol,
    source::SourceRef,
};

use super::is_ready;
use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    value::{Split, Splits},
};

impl Splits {
    /// Returns the route of the traffic to port `number` of the root. What no split takes goes to the root's own
    /// endpoints.
    pub fn route(
        &self,
        root: &ServiceId,
        number: u16,
        protocol: Protocol,
        context: &mut Context<'_>,
    ) -> Route {
        let mut rules: Vec<RouteRule> =
            self.0.iter().filter_map(|split| split.rule(number, protocol, context)).collect();
        if rules.last().is_none_or(|rule| rule.matches.is_some()) {
            for split in self.0.iter().filter(|_| protocol != Protocol::Tcp) {
                split.see_rest_is_served(number, context);
            }
            let origin = rules.last().and_then(|rule| rule.origin.clone());
            rules.push(RouteRule { origin, ..RouteRule::own(root.clone()) });
        }
        Route { rules }
    }
}

impl Split {
    /// Returns the rule of the split for a port, unless no traffic to the port is ever split.
    fn rule(&self, number: u16, protocol: Protocol, context: &mut Context<'_>) -> Option<RouteRule> {
        if self.matches.is_some() && protocol == Protocol::Tcp {
            context.report(self.unmatchable(number));
            return None;
        }
        let backends = self.backends_of(number, protocol, context);
        let matches = self.matches.as_ref().map(|matches| matches.keys().cloned().collect());
        let ObjectRef { kind, namespace, name, .. } = &self.object;
        let origin = Some(SourceRef::new(kind, namespace, name));
        // No request matches an empty list, so none is ever sent to the backends.
        let is_used = self.matches.as_ref().is_none_or(|matches| !matches.is_empty());
        is_used.then_some(RouteRule { matches, backends, origin })
    }

    fn unmatchable(&self, number: u16) -> Finding {
        let message = format!(
            "port {number} of {} is TCP, where there are no requests to match: it is not split",
            self.root.name
        );
        self.finding(Reason::NoEffect, "spec.matches", message)
            .hint("if it is HTTP, set appProtocol: http on the Service's port")
    }

    /// Reports a root without a ready endpoint: requests that match nothing need one as well.
    fn see_rest_is_served(&self, number: u16, context: &mut Context<'_>) {
        let root = context.kube_service(&self.root);
        if root.is_some_and(|root| root.ports.contains_key(&number)) && !is_ready(&self.root, number, context)
        {
            let message = format!(
                "{} has no ready endpoint of its own for port {number}; requests that match nothing are answered \
                 with 503",
                self.root.name
            );
            context.report(self.finding(Reason::BackendNotReady, "spec.service", message));
        }
    }
}
