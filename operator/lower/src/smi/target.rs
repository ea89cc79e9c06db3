//! Turns TrafficTargets into grants: what each destination identity allows to its sources.
//!
//! A rule or a subject that cannot be read allows nothing. That is stricter than leaving it out: an HTTPRouteGroup that
//! does not exist still makes its target an HTTP target, or a typing error would turn "these paths" into "anything".

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use smidge_crds::{
    Number,
    access::{IdentityBindingSpec, Rule, TrafficTarget, TrafficTargetSpec},
    object::Kind,
};
use smidge_mesh::{
    access::{Grant, Payload, Ports},
    id::SpiffeId,
    matches::Matches,
    source::SourceRef,
};

use super::{mixed, route, subject::SubjectReader};
use crate::{
    context::Context,
    cost,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
    node::Node,
    value::{Group, LostEffect, Part, RuledPorts, TargetGrant},
};

/// Returns the objects that a TrafficTarget refers to.
pub(crate) fn references((namespace, _): &Key, spec: &TrafficTargetSpec) -> Vec<ObjectRef> {
    let rules = spec.rules.iter().map(|rule| ObjectRef::new(&rule.kind, namespace, &rule.name));
    let subjects = spec.sources.iter().chain([&spec.destination]);
    let bindings = subjects.filter(|subject| subject.kind == IdentityBindingSpec::KIND).map(|subject| {
        let own = subject.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        ObjectRef::new(&subject.kind, own.unwrap_or(namespace), &subject.name)
    });
    rules.chain(bindings).collect()
}

/// Returns the grant of the TrafficTarget of that name, and its destinations.
pub(crate) fn target(key: &Key, context: &mut Context<'_>) -> Option<TargetGrant> {
    let target = context.object(|inputs| &inputs.traffic_targets)?;
    mixed::report(key, target, context);
    let mut reader = TargetReader { key, object: ObjectRef::new("TrafficTarget", &key.0, &key.1), context };
    let allowed = reader.read(target)?;
    context.contribute_to(Node::TargetsOverBudget(key.0.clone()));
    context.contribute_to(Node::TargetEffect(key.clone()));
    for destination in &allowed.destinations {
        context.contribute_to(Node::RuledPorts(SpiffeId::clone(destination)));
        context.contribute_to(Node::Grants(SpiffeId::clone(destination)));
    }
    Some(allowed)
}

/// Returns the ports of a destination identity for which its targets have rules.
pub(crate) fn ruled_ports(context: &mut Context<'_>) -> RuledPorts {
    let none = || Ports::Only(BTreeSet::new());
    let mut ruled = RuledPorts { http: none(), tcp: none() };
    for contributor in context.contributors() {
        let Node::Target(key) = &*contributor else { continue };
        let Some(allowed) = context.target(key) else { continue };
        let ports = match allowed.grant.payload {
            Payload::Http(_) => &mut ruled.http,
            Payload::Any => &mut ruled.tcp,
        };
        *ports = union(Some(mem::replace(ports, none())), allowed.grant.ports.clone());
    }
    ruled
}

/// Returns all grants of a destination identity, sorted.
pub(crate) fn grants(context: &mut Context<'_>) -> Vec<Arc<Grant>> {
    let mut grants = Vec::new();
    for contributor in context.contributors() {
        let Node::Target(key) = &*contributor else { continue };
        let losses = context.targets_over_budget(&key.0);
        grants.extend(context.target(key).and_then(|allowed| left(&allowed.grant, losses.get(key))));
    }
    grants.sort();
    grants
}

/// Returns the part of a target's grant that fits into the budgets.
fn left(grant: &Arc<Grant>, lost: Option<&LostEffect>) -> Option<Arc<Grant>> {
    match lost {
        None => Some(Arc::clone(grant)),
        Some(LostEffect::Everything) => None,
        Some(LostEffect::Sources(lost)) => {
            let sources: BTreeSet<_> = grant.sources.difference(lost).cloned().collect();
            (!sources.is_empty()).then(|| Arc::new(Grant { sources, ..Grant::clone(grant) }))
        }
    }
}

/// Reads one TrafficTarget.
struct TargetReader<'a, 'l> {
    key: &'a Key,
    object: ObjectRef,
    context: &'a mut Context<'l>,
}

/// Union of the rules of one target.
#[derive(Default)]
struct Rules {
    /// The union of the TCPRoutes' ports; `None` without a TCPRoute rule.
    tcp: Option<Ports>,
    /// The union of the HTTPRouteGroups' matches; `None` without an HTTPRouteGroup rule.
    http: Option<BTreeMap<Matches, u64>>,
    /// Groups that are used as a whole, by the name of their matches.
    whole: BTreeSet<String>,
    /// True if a rule could mean anything, so that the whole target must allow nothing.
    unknown: bool,
}

impl TargetReader<'_, '_> {
    fn report(&mut self, reason: Reason, field: impl Into<String>, message: impl Into<String>) {
        self.context.report_at(&self.object, reason, field, message);
    }

    /// Reads the grant of the target, and its destinations.
    fn read(&mut self, target: &TrafficTarget) -> Option<TargetGrant> {
        let mut subjects = SubjectReader { key: self.key, object: &self.object, context: self.context };
        // Everything is read before the first return on an error, so that all errors are reported at once.
        let destinations = subjects.destination(&target.spec.destination);
        let sources = subjects.sources(&target.spec.sources);
        let asked = self.asked(target.spec.destination.port.as_ref());
        let rules = self.rules(&target.spec.rules);
        let (ports, matches) = rules.payload()?;
        let ports = self.narrowed(ports, &asked)?;
        if destinations.is_empty() || sources.is_empty() {
            return None;
        }
        let used = matches.as_ref().map_or(1, BTreeMap::len);
        let cost = self.cost((sources.len(), destinations.len()), used, &ports)?;
        let origin = SourceRef::new(&self.object.kind, &self.key.0, &self.key.1);
        let payload =
            matches.as_ref().map_or(Payload::Any, |all| Payload::Http(all.keys().cloned().collect()));
        Some(TargetGrant {
            created: target.metadata.creation_timestamp.clone(),
            destinations,
            grant: Arc::new(Grant { origin, sources, ports, payload }),
            parts: matches.unwrap_or_default(),
            cost,
        })
    }

    /// Returns the cost of the target beside its matches, unless it exceeds the budget. Its callers are repeated beside
    /// all matches that it shares with the same other targets, so at most once for each part of a group.
    fn cost(&mut self, (sources, destinations): (usize, usize), used: usize, ports: &Ports) -> Option<u64> {
        let named = match ports {
            Ports::All => 0,
            Ports::Only(ports) => cost::count(ports.len()),
        };
        let identities = cost::count(sources).saturating_mul(cost::count(used));
        let cost = identities.saturating_mul(cost::IDENTITY).saturating_add(named.saturating_mul(cost::PORT));
        let opened = cost::count(destinations).saturating_mul(cost::DESTINATION);
        let whole = cost.saturating_add(opened);
        let budget = self.context.mesh_wide().budgets.object;
        if whole <= budget {
            return Some(cost);
        }
        let message = format!(
            "{sources} sources for {used} groups or matches, {destinations} destinations and {named} ports cost {whole}, more \
             than the budget of {budget}: the target allows nothing"
        );
        self.context.report(Finding::new(self.object.clone(), Reason::BudgetExceeded, message).at("spec").hint(
            "divide it into several TrafficTargets, or raise spec.budgets.object of the MeshConfig called default",
        ));
        None
    }

    /// Returns the ports that the destination itself names: one, or all if it names none.
    fn asked(&mut self, written: Option<&Number>) -> Ports {
        let Some(number) = written else { return Ports::All };
        let port = number.as_text_or_i64().and_then(route::port);
        if port.is_none() {
            let message = format!(
                "{number} is no port: expected a whole number from 1 to 65535; the target allows nothing"
            );
            self.report(Reason::InvalidPort, "spec.destination.port", message);
        }
        Ports::Only(port.into_iter().collect())
    }

    /// Returns the ports on which the rules and the destination agree.
    fn narrowed(&mut self, ports: Ports, asked: &Ports) -> Option<Ports> {
        let Ports::Only(asked) = asked else { return Some(ports) };
        let both: BTreeSet<u16> = asked.iter().copied().filter(|port| ports.contains(*port)).collect();
        if let Some(port) = asked.first().filter(|_| both.is_empty()) {
            let message =
                format!("{port} is none of the ports of the TCPRoutes, so the target allows nothing");
            self.report(Reason::Empty, "spec.destination.port", message);
        }
        (!both.is_empty()).then_some(Ports::Only(both))
    }

    fn rules(&mut self, written: &[Rule]) -> Rules {
        if written.is_empty() {
            self.report(Reason::Empty, "spec.rules", "no rule, so the target allows nothing");
        }
        let mut rules = Rules::default();
        // A rule or a match that is named again adds nothing, and would cost as much as the first time.
        let (mut read, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for (index, rule) in written.iter().enumerate().filter(|(_, rule)| read.insert(*rule)) {
            let field = format!("spec.rules[{index}]");
            let route = (self.key.0.clone(), rule.name.clone());
            match rule.kind.as_str() {
                "HTTPRouteGroup" => {
                    if rule.matches.is_none() {
                        rules.whole.insert(format!("{}/{}", route.0, route.1));
                    }
                    let matches = self.http(&field, route, rule, &mut taken);
                    rules.http.get_or_insert_default().extend(matches);
                }
                "TCPRoute" => {
                    let ports = self.context.tcp_route(route);
                    if ports.is_none() {
                        self.missing(&field, rule);
                    }
                    let ports = ports.unwrap_or(Ports::Only(BTreeSet::new()));
                    rules.tcp = Some(union(rules.tcp.take(), ports));
                }
                "UDPRoute" if self.context.is_udp_route(route) => {}
                "UDPRoute" => self.missing(&field, rule),
                kind => {
                    let found = if kind.is_empty() {
                        "is missing".to_owned()
                    } else {
                        format!("{kind:?} is no kind of route")
                    };
                    let message = format!(
                        "{found}: expected HTTPRouteGroup, TCPRoute or UDPRoute; as it could be meant to narrow the \
                         others, the target allows nothing"
                    );
                    self.report(Reason::InvalidKind, format!("{field}.kind"), message);
                    rules.unknown = true;
                }
            }
        }
        rules
    }

    fn missing(&mut self, field: &str, rule: &Rule) {
        let message = format!(
            "there is no {} {} in namespace {}; the rule allows nothing",
            rule.kind,
            if rule.name.is_empty() { "without a name" } else { &rule.name },
            self.key.0
        );
        self.report(Reason::RouteNotFound, format!("{field}.name"), message);
    }

    /// Returns the matches that a rule uses from its group, except those that were already used by group and name (or
    /// all).
    fn http<'r>(
        &mut self,
        field: &str,
        route: Key,
        rule: &'r Rule,
        taken: &mut BTreeSet<(&'r str, Option<&'r str>)>,
    ) -> Vec<Part> {
        let Some(group) = self.context.group(route) else {
            self.missing(field, rule);
            return Vec::new();
        };
        let Some(names) = &rule.matches else {
            let is_new = taken.insert((rule.name.as_str(), None));
            return is_new.then(|| group.all().clone()).into_iter().collect();
        };
        if names.is_empty() {
            let message = "an empty list names no match, so the rule allows nothing";
            self.context.report(
                Finding::new(self.object.clone(), Reason::Empty, message)
                    .at(format!("{field}.matches"))
                    .hint("leave the field out to mean every match of the group"),
            );
        }
        let mut matches = Vec::new();
        let mut is_new = |name: &'r str| taken.insert((rule.name.as_str(), Some(name)));
        for (index, name) in names.iter().enumerate().filter(|(_, name)| is_new(name)) {
            match group.named(name) {
                Some(meant) => matches.push(meant.clone()),
                None => self.match_not_found(&format!("{field}.matches[{index}]"), rule, name, &group),
            }
        }
        matches
    }

    fn match_not_found(&mut self, field: &str, rule: &Rule, name: &str, group: &Group) {
        let message = format!("HTTPRouteGroup {} has no match {name:?}; that name allows nothing", rule.name);
        let mut finding = Finding::new(self.object.clone(), Reason::MatchNotFound, message).at(field);
        if !group.names.is_empty() {
            finding = finding.hint(format!("it has {}", group.names));
        }
        self.context.report(finding);
    }
}

impl Rules {
    /// Returns the ports and matches of the grant, unless there is nothing in it. Without matches it allows any
    /// payload.
    fn payload(self) -> Option<(Ports, Option<BTreeMap<Matches, u64>>)> {
        let Self { tcp, mut http, whole, unknown } = self;
        // A target of UDPRoutes alone opens no TCP.
        if unknown || (tcp.is_none() && http.is_none()) {
            return None;
        }
        let ports = tcp.unwrap_or(Ports::All);
        if let Some(parts) = &mut http {
            // A match that is named beside its whole group adds nothing.
            let is_named = |name: &str| {
                let group = name.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
                group != name && whole.contains(&group)
            };
            parts.retain(|matches, _| !matches.is_empty() && !is_named(matches.name()));
        }
        let is_nothing = matches!(&ports, Ports::Only(ports) if ports.is_empty())
            || http.as_ref().is_some_and(BTreeMap::is_empty);
        (!is_nothing).then_some((ports, http))
    }
}

fn union(one: Option<Ports>, other: Ports) -> Ports {
    match (one, other) {
        (None, other) => other,
        (Some(Ports::All), _) | (_, Ports::All) => Ports::All,
        (Some(Ports::Only(mut one)), Ports::Only(other)) => {
            one.extend(other);
            Ports::Only(one)
        }
    }
}
