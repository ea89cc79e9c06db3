//! Routing of the traffic of a Service's port: rules in order, each with weighted backends.
//!
//! Each TrafficSplit of a Service becomes one rule; where all of them have `matches`, the last rule is the rest's. A
//! route becomes a RouteConfiguration for HTTP and a weighted proxy for TCP. Does not decide which callers are allowed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{id::ServiceId, matches::Matches, source::SourceRef};

/// Rules of one port, evaluated in order. The last one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The rules. TCP has exactly one, without matches.
    pub rules: Vec<RouteRule>,
}

impl Route {
    /// Returns the route of all traffic to the Service's own endpoints.
    pub fn own(service: ServiceId) -> Self {
        Self { rules: vec![RouteRule::own(service)] }
    }

    /// Returns the objects that the rules were made from, each once.
    pub fn origins(&self) -> BTreeSet<&SourceRef> {
        self.rules.iter().filter_map(|rule| rule.origin.as_ref()).collect()
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
    /// The object that the rule was made from, also for what the object leaves to the Service's own endpoints. Used for
    /// status and explanations, and never sent to Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<SourceRef>,
}

impl RouteRule {
    /// Returns the rule that sends all traffic that no earlier rule matches to the Service's own endpoints.
    pub fn own(service: ServiceId) -> Self {
        let backends = vec![Backend { service, port: None, weight: 1 }];
        Self { matches: None, backends, origin: None }
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

/// Returns weights in the same ratio whose sum fits `u32`. Weights that fit are unchanged; zero stays zero, and nothing
/// else becomes zero.
pub fn scale_weights(weights: impl Iterator<Item = u64> + Clone) -> Vec<u32> {
    const RANGE: u128 = u32::MAX as u128;
    let sum: u128 = weights.clone().map(u128::from).sum();
    // Half of the range, as each weight may be rounded up by one.
    let divisor = if sum <= RANGE { 1 } else { sum.div_ceil(RANGE / 2) };
    weights.map(|weight| u32::try_from(u128::from(weight).div_ceil(divisor)).unwrap_or(u32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_ratio_and_their_zeros_when_their_sum_is_too_large() {
        assert_eq!(scale_weights([90, 10, 0].into_iter()), [90, 10, 0]);
        for large in [
            [u64::MAX, u64::MAX, 1, 0],
            [u64::from(u32::MAX), u64::from(u32::MAX), 1, 0],
            [3 << 40, 1 << 40, 1, 0],
        ] {
            let scaled = scale_weights(large.into_iter());
            assert!(
                scaled.iter().try_fold(0_u32, |sum, weight| sum.checked_add(*weight)).is_some(),
                "{scaled:?}"
            );
            assert!(
                scaled[0].abs_diff(scaled[1] * u32::try_from(large[0] / large[1]).unwrap()) <= 3,
                "{scaled:?}"
            );
            assert_eq!(scaled[2..], [1, 0]);
        }
    }
}
