//! Keeps the sum of a namespace's TrafficTargets and TrafficSplits within the budgets: the oldest objects keep their
//! effect, and an object that no longer fits loses its own, with a finding.
//!
//! The load that a namespace puts into the proxies of another one is counted for each identity there, as a
//! TrafficTarget names its sources without their consent. Uses what `target`, `split` and `service` have read; `cost`
//! defines the costs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smidge_mesh::{
    id::{ServiceId, SpiffeId},
    matches::Matches,
};

use super::{
    context::Context,
    cost::{Budgets, count},
    node::Node,
    value::{Load, LostEffect, SplitSpec, TargetGrant, TargetsOverBudget, Value},
};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
};

/// Returns the load of a Service on the proxies of its callers, and contributes it to the identities behind the
/// Service: a client that may call one of them receives the Service.
pub(super) fn service_load(id: &ServiceId, context: &mut Context<'_>) -> Option<Load> {
    let known = context.kube_service(id)?;
    let splits = context.splits(id);
    let mut identities: BTreeSet<&SpiffeId> = known.members.iter().map(|member| &member.identity).collect();
    let sent_to: BTreeSet<&ServiceId> = splits.iter().flat_map(|splits| splits.backends()).collect();
    let backends: Vec<_> = sent_to.into_iter().filter_map(|backend| context.kube_service(backend)).collect();
    for backend in &backends {
        identities.extend(backend.members.iter().map(|member| &member.identity));
    }
    for identity in identities {
        context.contribute_to(Node::IdentityLoad(identity.clone()));
    }
    let called = known.called_ports();
    let matches = splits.as_ref().map_or(0, |splits| splits.cost()).saturating_mul(count(known.http_ports()));
    // A caller has a listener for each address of a headless Service, and a cluster for each port of each backend.
    let addresses = if known.is_headless { known.addresses().len().max(1) } else { 1 };
    let own = count(called.len()).saturating_mul(count(addresses));
    let others = backends.iter().filter(|backend| backend.id != *id);
    let sent = others.map(|backend| called.keys().filter(|port| backend.ports.contains_key(port)).count());
    let ports = sent.fold(own, |sum, ports| sum.saturating_add(count(ports)));
    Some(Load { ports, matches, inbound: 0 })
}

/// Contributes a port of an identity's pods to the load of the identity; the fact that there is one is all it is.
pub(super) fn inbound_port(identity: &SpiffeId, context: &mut Context<'_>) -> Value {
    context.contribute_to(Node::IdentityLoad(identity.clone()));
    Value::Yes
}

/// Returns the load of all Services of an identity on the proxies of its callers, and the number of ports of its own
/// pods.
pub(super) fn identity_load(context: &mut Context<'_>) -> Load {
    let mut sum = Load::default();
    for contributor in context.contributors() {
        match &*contributor {
            Node::ServiceLoad(id) => sum.add(context.service_load(id)),
            Node::InboundPort(..) => sum.inbound += 1,
            _ => {}
        }
    }
    sum
}

/// Returns the TrafficTargets of a namespace that no longer fit, or only for some of their sources.
pub(super) fn targets_over_budget(namespace: &str, context: &mut Context<'_>) -> TargetsOverBudget {
    let budgets = context.mesh_wide().budgets;
    let mut targets: Vec<(Key, Arc<TargetGrant>)> = Vec::new();
    for contributor in context.contributors() {
        let Node::Target(key) = &*contributor else { continue };
        targets.extend(context.target(key).map(|allowed| (key.clone(), allowed)));
    }
    // Contributors are sorted by name, and sorting keeps that order among equals.
    targets.sort_by(|(_, one), (_, other)| one.created.cmp(&other.created));
    let mut account =
        Account { budgets, namespace, held: 0, destinations: BTreeMap::new(), callers: BTreeMap::new() };
    let mut over_budget = TargetsOverBudget::new();
    for (key, allowed) in &targets {
        let object = ObjectRef::new("TrafficTarget", &key.0, &key.1);
        let mut loads: Vec<(&SpiffeId, Load)> = Vec::new();
        // A target that cannot fit in any case is refused without a look at each destination.
        let taken = account.room_for(allowed).and_then(|()| {
            loads.extend(allowed.destinations.iter().map(|it| (&**it, context.identity_load(it))));
            account.take(allowed, &loads)
        });
        if let Err(over) = taken {
            context.report(over.finding(object, "older ones are kept, and this one allows nothing"));
            over_budget.insert(key.clone(), LostEffect::Everything);
            continue;
        }
        let lost = account.take_sources(allowed, &loads);
        if let Some(first) = lost.first() {
            context.report(account.too_foreign(object, first, lost.len()));
            over_budget.insert(key.clone(), LostEffect::Sources(lost));
        }
    }
    over_budget
}

/// A budget that an object does not fit into.
struct Over {
    what: String,
    budget: &'static str,
    limit: u64,
}

impl Over {
    fn finding(self, object: ObjectRef, then: &str) -> Finding {
        let Self { what, budget, limit } = self;
        let message = format!("{what} more than the budget of {limit}: {then}");
        Finding::new(object, Reason::BudgetExceeded, message).at("spec").hint(format!(
            "name fewer matches, sources or ports, or raise spec.budgets.{budget} of the MeshConfig called default"
        ))
    }
}

/// Costs of the targets of one namespace that were accepted so far.
struct Account<'a> {
    budgets: Budgets,
    namespace: &'a str,
    /// Sum of all costs.
    held: u64,
    destinations: BTreeMap<&'a SpiffeId, Held<'a>>,
    /// Load in the proxies of each identity of another namespace, and the destinations that cause it.
    callers: BTreeMap<&'a SpiffeId, (Load, BTreeSet<&'a SpiffeId>)>,
}

/// Sum of the targets of a destination. The matches of a group cost once, however many targets use them.
#[derive(Default)]
struct Held<'a> {
    cost: u64,
    matches: BTreeSet<&'a Matches>,
}

impl<'a> Account<'a> {
    /// Checks that a target could fit at all beside the others of the namespace.
    fn room_for(&self, allowed: &TargetGrant) -> Result<(), Over> {
        let least = allowed.cost.saturating_mul(count(allowed.destinations.len()));
        if self.held.saturating_add(least) > self.budgets.namespace { Err(self.full()) } else { Ok(()) }
    }

    fn full(&self) -> Over {
        let what = format!("the TrafficTargets of namespace {} cost", self.namespace);
        Over { what, budget: "namespace", limit: self.budgets.namespace }
    }

    /// Accepts a target, if it fits at each of its destinations, and with all others of the namespace.
    fn take(&mut self, allowed: &'a TargetGrant, loads: &[(&'a SpiffeId, Load)]) -> Result<(), Over> {
        let mut costs = Vec::new();
        for (destination, load) in loads {
            let held = self.destinations.entry(destination).or_default();
            let new = allowed.parts.iter().filter(|(matches, _)| !held.matches.contains(matches));
            let matches: u64 = new.map(|(_, cost)| *cost).sum();
            // Each port of its pods has rules of its own, and its callers hold each port of its Services.
            let copies = load.ports.max(load.inbound).max(1);
            let cost = matches.saturating_add(allowed.cost).saturating_mul(copies);
            if held.cost.saturating_add(cost) > self.budgets.destination {
                let what =
                    format!("the TrafficTargets of ServiceAccount {} cost", destination.service_account);
                return Err(Over { what, budget: "destination", limit: self.budgets.destination });
            }
            costs.push(cost);
        }
        let sum = costs.iter().fold(self.held, |sum, cost| sum.saturating_add(*cost));
        if sum > self.budgets.namespace {
            return Err(self.full());
        }
        self.held = sum;
        for ((destination, _), cost) in loads.iter().zip(costs) {
            let held = self.destinations.entry(destination).or_default();
            held.cost = held.cost.saturating_add(cost);
            held.matches.extend(allowed.parts.keys());
        }
        Ok(())
    }

    /// Accepts the sources of other namespaces whose proxies have room for the Services of the target's destinations,
    /// and returns the others.
    fn take_sources(
        &mut self,
        allowed: &'a TargetGrant,
        loads: &[(&'a SpiffeId, Load)],
    ) -> BTreeSet<Arc<SpiffeId>> {
        let mut lost = BTreeSet::new();
        for source in allowed.grant.sources.iter().filter(|source| source.namespace != self.namespace) {
            let (load, seen) = self.callers.entry(source).or_default();
            let new = loads.iter().filter(|(destination, _)| !seen.contains(destination));
            let mut sum = *load;
            new.for_each(|(_, more)| sum.add(*more));
            if sum.matches > self.budgets.foreign_matches || sum.ports > self.budgets.foreign_ports {
                lost.insert(Arc::clone(source));
            } else {
                *load = sum;
                seen.extend(loads.iter().map(|(destination, _)| *destination));
            }
        }
        lost
    }

    fn too_foreign(&self, object: ObjectRef, first: &SpiffeId, number: usize) -> Finding {
        let others = if number > 1 { format!(" and of {} more sources", number - 1) } else { String::new() };
        let Budgets { foreign_matches, foreign_ports, .. } = self.budgets;
        let message = format!(
            "the proxies of {first}{others} would hold more of namespace {} than others must: at most {foreign_ports} \
             ports of Services, and matches of TrafficSplits that cost {foreign_matches}; these sources are left out",
            self.namespace
        );
        Finding::new(object, Reason::BudgetExceeded, message).at("spec.sources").hint(
            "split the Services over namespaces, write fewer matches, or raise spec.budgets.foreignPorts or \
             foreignMatches of the MeshConfig called default",
        )
    }
}

/// Returns the TrafficSplits of a namespace whose matches no longer fit.
pub(super) fn splits_over_budget(namespace: &str, context: &mut Context<'_>) -> BTreeSet<Key> {
    let budgets = context.mesh_wide().budgets;
    let mut splits: Vec<(Key, Arc<SplitSpec>)> = Vec::new();
    for contributor in context.contributors() {
        let Node::SplitSpec(key) = &*contributor else { continue };
        splits.extend(context.split_spec(key).map(|written| (key.clone(), written)));
    }
    splits.sort_by(|(_, one), (_, other)| one.created.cmp(&other.created));
    let (mut held, mut lost) = (0_u64, BTreeSet::new());
    let mut roots: BTreeMap<ServiceId, u64> = BTreeMap::new();
    for (key, written) in splits {
        let http = context.kube_service(written.root()).map_or(0, |root| count(root.http_ports()));
        let cost = written.cost().saturating_mul(http);
        let sum = held.saturating_add(cost);
        let of_root = roots.entry(written.root().clone()).or_default();
        let root = of_root.saturating_add(cost);
        let over = if root > budgets.root {
            let others =
                if *of_root > 0 { ", and with those of older TrafficSplits of the Service" } else { "" };
            let what = format!("the matches cost {cost} at {http} HTTP ports{others},");
            Over { what, budget: "root", limit: budgets.root }
        } else if sum > budgets.namespace {
            let what =
                format!("the matches of this and of older TrafficSplits of namespace {namespace} cost");
            Over { what, budget: "namespace", limit: budgets.namespace }
        } else {
            held = sum;
            *of_root = root;
            continue;
        };
        let object = ObjectRef::new("TrafficSplit", &key.0, &key.1);
        context.report(over.finding(object, "the split has no effect"));
        lost.insert(key);
    }
    lost
}
