//! Cost model: the cost of a part of a policy for the proxies and the operator, and the budgets that limit it.
//!
//! A unit is about one instruction of a regular expression's program in RE2: up to 6 bytes in Envoy 1.40, 18 in Envoy
//! 1.36, and less than 2 on the wire (docs/design/011). Used while lowering (`smi`, `budget`). Decides nothing by
//! itself.

use smidge_crds::{Number, config};
use smidge_mesh::matches::HttpMatch;

/// Cost of a match, whatever its conditions.
const MATCH: u64 = 400;
/// Cost of a method of a match.
const METHOD: u64 = 200;
/// Cost of a header of a match, beside its name and its expression.
const HEADER: u64 = 400;
/// Cost of an identity that a target or a binding names.
pub(super) const IDENTITY: u64 = 500;
/// Cost of an identity that a target opens, as each is evaluated separately.
pub(super) const DESTINATION: u64 = 5000;
/// Cost of a port that a target names.
pub(super) const PORT: u64 = 50;

/// Maximum costs and numbers; `spec.budgets` of the MeshConfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budgets {
    /// Maximum cost of one HTTPRouteGroup, TrafficTarget or IdentityBinding.
    pub object: u64,
    /// Maximum cost of all TrafficTargets of one destination, counted for each port of its Services.
    pub destination: u64,
    /// Maximum cost of the matches of a TrafficSplit, counted for each port of its root.
    pub root: u64,
    /// Maximum cost of all TrafficTargets of a namespace, and likewise of all its TrafficSplits.
    pub namespace: u64,
    /// Maximum cost of the matches of one namespace's TrafficSplits in the proxies of an identity of another one.
    pub foreign_matches: u64,
    /// Maximum number of ports of one namespace's Services in the proxies of an identity of another one.
    pub foreign_ports: u64,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            object: 1_000_000,
            destination: 2_000_000,
            root: 1_000_000,
            namespace: 16_000_000,
            foreign_matches: 250_000,
            foreign_ports: 1_000,
        }
    }
}

/// Field of `spec.budgets`: its name, its value as written, and the budget that it sets.
pub(super) type Field<'a> = (&'static str, &'a Option<Number>, &'a mut u64);

impl Budgets {
    /// Returns the fields as written in `settings`, each with the budget that it sets.
    pub fn fields<'a>(&'a mut self, settings: &'a config::BudgetSettings) -> [Field<'a>; 6] {
        let config::BudgetSettings { object, destination, root, namespace, foreign_matches, foreign_ports } =
            settings;
        [
            ("object", object, &mut self.object),
            ("destination", destination, &mut self.destination),
            ("root", root, &mut self.root),
            ("namespace", namespace, &mut self.namespace),
            ("foreignMatches", foreign_matches, &mut self.foreign_matches),
            ("foreignPorts", foreign_ports, &mut self.foreign_ports),
        ]
    }
}

/// Returns the cost of a match whose expressions have this cost together.
pub(super) fn of_match(it: &HttpMatch, expressions: u64) -> u64 {
    let HttpMatch { name, path: _, methods, headers } = it;
    let methods = methods.as_ref().map_or(0, |methods| METHOD * count(methods.len()));
    let headers: u64 = headers.keys().map(|name| HEADER + count(name.len())).sum();
    MATCH + count(name.len()) + expressions + methods + headers
}

/// Converts a number of items to a cost; saturates.
pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
