//! Reads MetricsPolicies: the workloads whose requests are measured by route, and the routes.
//!
//! What is measured is a property of a class: instances that share identity, ports and settings are measured alike, so a
//! policy may measure more workloads than it names, and never less. A defect costs the policy a part of its effect, and
//! no workload anything.

use std::{collections::BTreeSet, sync::Arc};

use smidge_crds::{
    access::Rule,
    config::{MetricsPolicySpec, MetricsTarget},
    object::Kind as _,
    specs::HttpRouteGroupSpec,
};
use smidge_mesh::{
    access::Payload,
    id::{ClassId, ServiceId},
    matches::Matches,
    source::SourceRef,
    workload::{Class, MeasuredRoutes},
};

use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
    node::Node,
    value::{Measured, Part},
};

/// Maximum number of matches that are measured for a class: each multiplies its statistics.
const MAX_MATCHES: usize = 32;

/// Returns the objects that a MetricsPolicy refers to.
pub(crate) fn references((namespace, _): &Key, spec: &MetricsPolicySpec) -> Vec<ObjectRef> {
    let target = ObjectRef::new(&spec.target.kind, namespace, &spec.target.name);
    let rules = spec.rules.iter().map(|rule| ObjectRef::new(&rule.kind, namespace, &rule.name));
    rules.chain([target]).collect()
}

/// Returns what the MetricsPolicy of that name has measured.
pub(crate) fn metrics_policy(key: &Key, context: &mut Context<'_>) -> Option<Measured> {
    let policy = context.object(|inputs| &inputs.metrics_policies)?;
    let object = ObjectRef::new(MetricsPolicySpec::KIND, &key.0, &key.1);
    let mut reader = PolicyReader { key, object, context };
    let matches = if policy.spec.rules.is_empty() { None } else { Some(reader.matches(&policy.spec.rules)) };
    let is_named = reader.give_to_classes(&policy.spec.target, matches.is_some());
    let origin = SourceRef::new(MetricsPolicySpec::KIND, &key.0, &key.1);
    is_named.then_some(Measured { origin, matches })
}

/// Returns the routes that are measured for a class: those of its contributors and of its namespace, in the order of the
/// policies' names.
pub(crate) fn routes(
    class: &Class,
    contributors: Vec<Arc<Node>>,
    context: &mut Context<'_>,
) -> Vec<MeasuredRoutes> {
    // Most classes have no policy, and their grants do not matter.
    let mut policies = context.policies_of_namespace(&class.identity.namespace);
    policies.extend(contributors.into_iter().filter(|it| matches!(**it, Node::MetricsPolicy(_))));
    policies.sort();
    policies.dedup();
    let (mut known, mut all) = (BTreeSet::new(), Vec::new());
    for policy in policies {
        let Some(measured) = context.measured(&policy) else { continue };
        let mut matches = match &measured.matches {
            Some(matches) => matches.clone(),
            None => granted(class, context),
        };
        let written = matches.len();
        matches.retain(|matches| {
            // A match that several policies name is measured once.
            let new: Vec<String> =
                matches.iter().map(|it| it.name.clone()).filter(|name| !known.contains(name)).collect();
            let fits = known.len() + new.len() <= MAX_MATCHES;
            if fits {
                known.extend(new);
            }
            fits
        });
        if let (true, Some(key)) = (matches.len() < written, policy.key()) {
            context.report(too_many(&key, class));
        }
        all.push(MeasuredRoutes { origin: measured.origin.clone(), matches });
    }
    all.retain(|routes| !routes.matches.is_empty());
    all
}

fn too_many((namespace, name): &Key, class: &Class) -> Finding {
    let message = format!(
        "some of its matches are not measured for the workloads of ServiceAccount {}: expected at most {MAX_MATCHES} of all \
         policies",
        class.identity.service_account
    );
    let object = ObjectRef::new(MetricsPolicySpec::KIND, namespace, name);
    Finding::new(object, Reason::BudgetExceeded, message)
        .at("spec.rules")
        .hint("name fewer matches here, or in the policies whose names come before")
}

/// Returns the matches that the grants of a class's identity have.
fn granted(class: &Class, context: &mut Context<'_>) -> Vec<Matches> {
    let grants = context.grants(&class.identity).unwrap_or_default();
    let of = |payload: &Payload| match payload {
        Payload::Http(matches) => matches.iter().cloned().collect(),
        Payload::Any => Vec::new(),
    };
    let mut all: Vec<Matches> = grants.iter().flat_map(|grant| of(&grant.payload)).collect();
    all.sort();
    all.dedup();
    all
}

/// Reads one MetricsPolicy.
struct PolicyReader<'a, 'l> {
    key: &'a Key,
    object: ObjectRef,
    context: &'a mut Context<'l>,
}

impl PolicyReader<'_, '_> {
    fn report(&mut self, reason: Reason, field: impl Into<String>, message: impl Into<String>) {
        self.context.report_at(&self.object, reason, field, message);
    }

    /// Contributes the policy to the classes of the object that it names; returns false if it names none.
    fn give_to_classes(&mut self, target: &MetricsTarget, has_rules: bool) -> bool {
        if target.name.is_empty() {
            self.report(Reason::Empty, "spec.target.name", "names no object, so nothing is measured");
            return false;
        }
        if target.kind == "Namespace" {
            return self.give_to_namespace(&target.name);
        }
        let Some(pods) = self.pods(target) else { return false };
        let classes: Vec<(ClassId, Arc<Class>)> =
            pods.iter().filter_map(|pod| self.context.class_of_pod(pod)).collect();
        if classes.is_empty() {
            let message = format!(
                "no pod of {} {} in namespace {} is in the mesh, so nothing is measured",
                target.kind, target.name, self.key.0
            );
            self.report(Reason::NotInMesh, "spec.target", message);
        } else if pods.iter().all(|pod| self.counts_nothing(pod)) {
            let message = "its proxies count no traffic, so nothing is measured: they are on machines, or their Envoy is \
                           older than 1.37 or of unknown version";
            self.context.report(
                Finding::new(self.object.clone(), Reason::NotCounted, message)
                    .at("spec.target")
                    .hint("restart the pods with a sidecar of Envoy 1.37 or later"),
            );
        } else if !has_rules && classes.iter().all(|(_, class)| granted(class, self.context).is_empty()) {
            self.report_no_route();
        }
        for (id, _) in classes {
            self.context.contribute_to(Node::Class(id));
        }
        true
    }

    /// Returns true if the proxy of a pod counts nothing. A pod of a manifest is injected later.
    fn counts_nothing(&mut self, pod: &Key) -> bool {
        let member = self.context.pod(pod).and_then(|pod| pod.member.clone());
        member.is_none_or(|member| member.traffic.is_none() && !member.is_planned)
    }

    fn report_no_route(&mut self) {
        let message = "no rule, and no TrafficTarget of the object's ServiceAccount has an HTTPRouteGroup, so nothing is \
                       measured";
        self.context.report(
            Finding::new(self.object.clone(), Reason::Empty, message)
                .at("spec.rules")
                .hint("name the HTTPRouteGroups whose matches are the routes"),
        );
    }

    /// Contributes the policy to its namespace as a whole, at the same cost for any number of pods.
    fn give_to_namespace(&mut self, name: &str) -> bool {
        let namespace = &self.key.0;
        if name != namespace {
            let message =
                format!("{name} is not the namespace of the policy, {namespace}: nothing is measured");
            self.report(Reason::InvalidName, "spec.target.name", message);
            return false;
        }
        if !self.context.injects(namespace) {
            let message = format!("namespace {namespace} is not in the mesh, so nothing is measured");
            self.report(Reason::NotInMesh, "spec.target", message);
        }
        self.context.contribute_to(Node::PoliciesOfNamespace(namespace.clone()));
        true
    }

    /// Returns the pods of the object; `None` if there is no such object, or cannot be.
    fn pods(&mut self, target: &MetricsTarget) -> Option<Vec<Key>> {
        let (namespace, MetricsTarget { kind, name }) = (self.key.0.clone(), target);
        Some(match kind.as_str() {
            "Pod" => vec![(namespace, name.clone())],
            "Service" => self.members(&[ServiceId { namespace, name: name.clone() }])?,
            "TrafficSplit" => {
                let Some(split) = self.context.split_spec(&(namespace, name.clone())) else {
                    let message = format!("there is no TrafficSplit {name}, so nothing is measured");
                    self.report(Reason::NotInMesh, "spec.target.name", message);
                    return None;
                };
                let backends = split.split.shares.iter().map(|share| share.service.clone());
                let services: Vec<ServiceId> = backends.chain([split.root().clone()]).collect();
                self.members(&services)?
            }
            "" | "Node" | "ReplicaSet" => {
                let message = format!(
                    "{kind:?} cannot be measured by route: expected Namespace, Pod, Service, TrafficSplit, or the kind of a \
                     workload, such as Deployment"
                );
                self.report(Reason::InvalidKind, "spec.target.kind", message);
                return None;
            }
            kind => self.context.pods_of_workload((&namespace, kind, name)),
        })
    }

    /// Returns the members of Services, if one of them exists.
    fn members(&mut self, services: &[ServiceId]) -> Option<Vec<Key>> {
        let found: Vec<_> = services.iter().filter_map(|id| self.context.kube_service(id)).collect();
        if found.is_empty() {
            let names: Vec<&str> = services.iter().map(|id| id.name.as_str()).collect();
            let message = format!("there is no Service {}, so nothing is measured", names.join(" or "));
            self.report(Reason::ServiceNotFound, "spec.target.name", message);
            return None;
        }
        Some(
            found
                .iter()
                .flat_map(|service| service.members.iter().map(|member| member.key.clone()))
                .collect(),
        )
    }

    /// Returns the matches of rules, in order.
    fn matches(&mut self, rules: &[Rule]) -> Vec<Matches> {
        let mut parts: Vec<Part> = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            parts.extend(self.rule(&format!("spec.rules[{index}]"), rule));
        }
        let cost = parts.iter().fold(0, |sum: u64, (_, cost)| sum.saturating_add(*cost));
        let number: usize = parts.iter().map(|(matches, _)| matches.iter().count()).sum();
        let budget = self.context.mesh_wide().budgets.object;
        if cost > budget || number > MAX_MATCHES {
            let message = format!(
                "{number} matches that cost {cost}: expected at most {MAX_MATCHES}, and the budget of {budget}; nothing is measured"
            );
            self.report(Reason::BudgetExceeded, "spec.rules", message);
            return Vec::new();
        }
        parts.into_iter().map(|(matches, _)| matches).collect()
    }

    fn rule(&mut self, field: &str, rule: &Rule) -> Vec<Part> {
        if rule.kind != HttpRouteGroupSpec::KIND {
            let message =
                format!("{:?} has no routes: expected HTTPRouteGroup; the rule has no effect", rule.kind);
            self.report(Reason::InvalidKind, format!("{field}.kind"), message);
            return Vec::new();
        }
        let Some(group) = self.context.group((self.key.0.clone(), rule.name.clone())) else {
            let message = format!(
                "there is no HTTPRouteGroup {} in namespace {}; the rule has no effect",
                rule.name, self.key.0
            );
            self.report(Reason::RouteNotFound, format!("{field}.name"), message);
            return Vec::new();
        };
        let Some(names) = &rule.matches else { return vec![group.all().clone()] };
        let mut parts = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if let Some(part) = group.named(name) {
                parts.push(part.clone());
            } else {
                let message = format!("HTTPRouteGroup {} has no match {name:?}", rule.name);
                self.report(Reason::MatchNotFound, format!("{field}.matches[{index}]"), message);
            }
        }
        parts
    }
}
