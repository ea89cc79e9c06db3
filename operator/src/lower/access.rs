//! Turns TrafficTargets into grants: what each destination identity allows whom.
//!
//! Whatever cannot be read allows nothing. That is more than leaving it out: an HTTPRouteGroup that does not exist
//! still makes its target an HTTP target, or a typing error would turn "these paths" into "anything".

use std::collections::{BTreeMap, BTreeSet};

use smidge_crds::access::{Rule, Subject, TrafficTarget};
use smidge_xds::mesh::{
    access::{Grant, HttpMatch, Payload, Ports},
    id::{SpiffeId, TrustDomain},
};

use super::route::{Group, Routes};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key},
};

/// The grants of every TrafficTarget, by destination, sorted.
pub(super) fn grants(
    inputs: &Inputs,
    routes: &Routes<'_>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<SpiffeId, Vec<Grant>> {
    let mut grants: BTreeMap<SpiffeId, Vec<Grant>> = BTreeMap::new();
    for (key, target) in &inputs.traffic_targets {
        let mut reader = TargetReader {
            key,
            object: ObjectRef::new("TrafficTarget", &key.0, &key.1),
            domain: &inputs.trust_domain,
            routes,
            findings,
        };
        if let Some((destination, grant)) = reader.read(target) {
            grants.entry(destination).or_default().push(grant);
        }
    }
    for grants in grants.values_mut() {
        grants.sort();
    }
    grants
}

/// Reads one TrafficTarget.
struct TargetReader<'a> {
    key: &'a Key,
    object: ObjectRef,
    domain: &'a TrustDomain,
    routes: &'a Routes<'a>,
    findings: &'a mut Vec<Finding>,
}

/// What the rules of one target add up to.
#[derive(Default)]
struct Rules {
    /// The union of the TCPRoutes' ports; `None` without a TCPRoute rule.
    tcp: Option<Ports>,
    /// The union of the HTTPRouteGroups' matches; `None` without an HTTPRouteGroup rule.
    http: Option<BTreeSet<HttpMatch>>,
    /// Whether a rule could mean anything, so that the whole target must mean nothing.
    unknown: bool,
}

impl TargetReader<'_> {
    fn found(&mut self, reason: Reason, field: impl Into<String>, message: impl Into<String>) {
        self.findings.push(Finding::new(self.object.clone(), reason, message).at(field));
    }

    fn read(&mut self, target: &TrafficTarget) -> Option<(SpiffeId, Grant)> {
        // Everything is read before anything is given up, so that one look shows all that is wrong.
        let destination = self.destination(&target.spec.destination);
        let sources = self.sources(&target.spec.sources);
        let rules = self.rules(&target.spec.rules);
        let (ports, payload) = rules.payload()?;
        let (destination, sources) = (destination?, sources);
        if sources.is_empty() {
            return None;
        }
        let name = format!("{}/{}", self.key.0, self.key.1);
        Some((destination, Grant { name, sources, ports, payload }))
    }

    fn destination(&mut self, subject: &Subject) -> Option<SpiffeId> {
        let identity = self.subject("spec.destination", subject)?;
        if identity.namespace == self.key.0 {
            return Some(identity);
        }
        let message = format!(
            "{:?} is not the target's own namespace: only that can be granted access to; the target allows nothing",
            identity.namespace
        );
        self.findings.push(
            Finding::new(self.object.clone(), Reason::ForeignNamespace, message)
                .at("spec.destination.namespace")
                .hint(format!("put the TrafficTarget into namespace {}", identity.namespace)),
        );
        None
    }

    fn sources(&mut self, subjects: &[Subject]) -> BTreeSet<SpiffeId> {
        if subjects.is_empty() {
            self.found(Reason::Empty, "spec.sources", "no source, so the target allows nobody");
        }
        let mut sources = BTreeSet::new();
        for (index, subject) in subjects.iter().enumerate() {
            sources.extend(self.subject(&format!("spec.sources[{index}]"), subject));
        }
        sources
    }

    fn subject(&mut self, field: &str, subject: &Subject) -> Option<SpiffeId> {
        let Subject { kind, name, namespace, group: _, port: _ } = subject;
        let nothing =
            if field == "spec.destination" { "the target allows nothing" } else { "it allows nobody" };
        match kind.as_str() {
            "ServiceAccount" => {}
            "IdentityBinding" => {
                let message = format!("kind IdentityBinding is not served yet; {nothing}");
                self.found(Reason::NotServed, format!("{field}.kind"), message);
                return None;
            }
            _ => {
                let message = format!("{kind:?} is no kind of identity: expected ServiceAccount; {nothing}");
                self.found(Reason::UnknownKind, format!("{field}.kind"), message);
                return None;
            }
        }
        if name.is_empty() {
            self.found(Reason::Empty, format!("{field}.name"), format!("no name; {nothing}"));
            return None;
        }
        let namespace = namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(&self.key.0);
        Some(SpiffeId {
            trust_domain: self.domain.clone(),
            namespace: namespace.to_owned(),
            service_account: name.clone(),
        })
    }

    fn rules(&mut self, written: &[Rule]) -> Rules {
        if written.is_empty() {
            self.found(Reason::Empty, "spec.rules", "no rule, so the target allows nothing");
        }
        let mut rules = Rules::default();
        for (index, rule) in written.iter().enumerate() {
            let field = format!("spec.rules[{index}]");
            let route = (self.key.0.clone(), rule.name.clone());
            match rule.kind.as_str() {
                "HTTPRouteGroup" => {
                    let matches = self.http(&field, &route, rule);
                    rules.http.get_or_insert_default().extend(matches);
                }
                "TCPRoute" => {
                    let ports = self.routes.tcp.get(&route).cloned();
                    if ports.is_none() {
                        self.missing(&field, rule);
                    }
                    let ports = ports.unwrap_or(Ports::Only(BTreeSet::new()));
                    rules.tcp = Some(union(rules.tcp.take(), ports));
                }
                "UDPRoute" if self.routes.udp.contains(&route) => {}
                "UDPRoute" => self.missing(&field, rule),
                kind => {
                    let message = format!(
                        "{kind:?} is no kind of route: expected HTTPRouteGroup, TCPRoute or UDPRoute; as it could be \
                         meant to narrow the others, the target allows nothing"
                    );
                    self.found(Reason::UnknownKind, format!("{field}.kind"), message);
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
        self.found(Reason::RouteNotFound, format!("{field}.name"), message);
    }

    /// The matches that a rule takes from its group.
    fn http(&mut self, field: &str, route: &Key, rule: &Rule) -> Vec<HttpMatch> {
        let routes = self.routes;
        let Some(group) = routes.groups.get(route) else {
            self.missing(field, rule);
            return Vec::new();
        };
        let Some(names) = &rule.matches else {
            return group.matches.iter().filter_map(|(_, read)| read.clone()).collect();
        };
        if names.is_empty() {
            let message = "an empty list names no match, so the rule allows nothing";
            self.findings.push(
                Finding::new(self.object.clone(), Reason::Empty, message)
                    .at(format!("{field}.matches"))
                    .hint("leave the field out to mean every match of the group"),
            );
        }
        let mut taken = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let mut meant = group.matches.iter().filter(|(candidate, _)| candidate == name).peekable();
            if meant.peek().is_none() {
                self.match_not_found(&format!("{field}.matches[{index}]"), rule, name, group);
            }
            taken.extend(meant.filter_map(|(_, read)| read.clone()));
        }
        taken
    }

    fn match_not_found(&mut self, field: &str, rule: &Rule, name: &str, group: &Group) {
        let known: Vec<&str> = group.matches.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!("HTTPRouteGroup {} has no match {name:?}; that name allows nothing", rule.name);
        let mut finding = Finding::new(self.object.clone(), Reason::MatchNotFound, message).at(field);
        if !known.is_empty() {
            finding = finding.hint(format!("it has {}", known.join(", ")));
        }
        self.findings.push(finding);
    }
}

impl Rules {
    /// The ports and payload of the grant, unless there is nothing in it.
    fn payload(self) -> Option<(Ports, Payload)> {
        let Self { tcp, http, unknown } = self;
        // A target of UDPRoutes alone opens no TCP.
        if unknown || (tcp.is_none() && http.is_none()) {
            return None;
        }
        let ports = tcp.unwrap_or(Ports::All);
        let payload = http.map_or(Payload::Any, Payload::Http);
        let is_nothing = matches!(&ports, Ports::Only(ports) if ports.is_empty())
            || matches!(&payload, Payload::Http(matches) if matches.is_empty());
        (!is_nothing).then_some((ports, payload))
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
