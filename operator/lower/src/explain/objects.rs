//! Lists the objects that have a role in an answer, and selects the findings about them.
//!
//! Looks names up in what users wrote; their meaning was decided before.

use std::collections::{BTreeMap, BTreeSet};

use smidge_crds::{
    access::{Subject, TrafficTarget},
    config, labels,
};
use smidge_mesh::id::SpiffeId;

use super::{
    Destination, Role, Share, Use, Verdict,
    subject::{Callee, CalleeKind},
};
use crate::{
    cluster::{Bindings, bindings},
    finding::{Finding, ObjectRef},
    inputs::{Inputs, Key},
};

/// Kind of workloads that are objects of their own.
const MACHINE: &str = "ExternalWorkload";

/// Returns the objects by role, those that decide first.
pub(super) fn used(inputs: &Inputs, caller: Option<&SpiffeId>, shares: &[Share]) -> Vec<Use> {
    let mut uses = Uses::default();
    let bindings = bindings(inputs);
    for share in shares {
        if let Some((origin, key)) = share.origin.as_ref().and_then(|it| Some((it, key(&it.name)?))) {
            uses.add(&origin.kind, &key, Role::Splits, None);
        }
        for name in &share.matches {
            uses.add_match(name, Role::Splits);
        }
        for destination in &share.destinations {
            uses.add_mode(inputs, destination);
            if destination.mode == "permissive" {
                continue;
            }
            for by in &destination.allowed_by {
                uses.add_target(inputs, &by.target, Role::Allows, destination.port);
                uses.add_bindings(inputs, &bindings, &by.target, Role::Allows, (caller, &destination.id));
                by.matches.iter().for_each(|name| uses.add_match(name, Role::Allows));
            }
            for considered in &destination.considered {
                let target = &considered.target;
                uses.add_target(inputs, target, Role::Considered, 0);
                uses.add_bindings(inputs, &bindings, target, Role::Considered, (caller, &destination.id));
            }
        }
    }
    uses.listed()
}

/// Objects by role, and the matches of each.
#[derive(Default)]
struct Uses(BTreeMap<(ObjectRef, Role), BTreeSet<String>>);

impl Uses {
    fn add(&mut self, kind: &str, key: &Key, role: Role, name: Option<&str>) {
        let matches = self.0.entry((ObjectRef::new(kind, &key.0, &key.1), role)).or_default();
        matches.extend(name.map(str::to_owned));
    }

    /// Adds a match, which is named `namespace/group/match`.
    fn add_match(&mut self, name: &str, role: Role) {
        let mut parts = name.splitn(3, '/');
        if let (Some(namespace), Some(group), Some(name)) = (parts.next(), parts.next(), parts.next()) {
            self.add("HTTPRouteGroup", &(namespace.to_owned(), group.to_owned()), role, Some(name));
        }
    }

    /// Adds a target, and the TCPRoutes by which it applies to a port.
    fn add_target(&mut self, inputs: &Inputs, target: &str, role: Role, port: u16) {
        let Some(key) = key(target) else { return };
        self.add("TrafficTarget", &key, role, None);
        let Some(target) = inputs.traffic_targets.get(&key) else { return };
        for rule in target.spec.rules.iter().filter(|rule| rule.kind == "TCPRoute") {
            let route_key = (key.0.clone(), rule.name.clone());
            let ports = inputs.tcp_routes.get(&route_key).map(|route| &route.spec.matches.ports);
            if ports.is_some_and(|ports| {
                ports.is_empty() || ports.iter().any(|number| number.as_i64() == Some(i64::from(port)))
            }) {
                self.add("TCPRoute", &route_key, role, None);
            }
        }
    }

    /// Adds the IdentityBindings by which a target names the caller and the destination.
    fn add_bindings(
        &mut self,
        inputs: &Inputs,
        bindings: &Bindings,
        target: &str,
        role: Role,
        (caller, destination): (Option<&SpiffeId>, &SpiffeId),
    ) {
        let Some(key) = key(target) else { return };
        let Some(target) = inputs.traffic_targets.get(&key) else { return };
        let sources = target.spec.sources.iter().zip(std::iter::repeat(caller));
        for (subject, meant) in sources.chain([(&target.spec.destination, Some(destination))]) {
            let binding = binding(&key, subject);
            let resolves_to = |it: &SpiffeId| bindings.get(&binding).is_some_and(|all| all.contains(it));
            if subject.kind == "IdentityBinding" && meant.is_some_and(resolves_to) {
                self.add("IdentityBinding", &binding, role, None);
            }
        }
    }

    /// Adds the object that sets the access mode of a destination, if there is one.
    fn add_mode(&mut self, inputs: &Inputs, destination: &Destination) {
        let namespace = (String::new(), destination.id.namespace.clone());
        let labelled = inputs.namespaces.get(&namespace).and_then(|of| of.metadata.labels.as_ref());
        let default = (String::new(), config::DEFAULT.to_owned());
        if labelled.is_some_and(|labels| labels.contains_key(labels::ACCESS)) {
            self.add("Namespace", &namespace, Role::Decides, None);
        } else if inputs.mesh_configs.get(&default).is_some_and(|it| it.spec.access.mode.is_some()) {
            self.add("MeshConfig", &default, Role::Decides, None);
        }
    }

    fn listed(self) -> Vec<Use> {
        let allows: BTreeSet<ObjectRef> =
            self.0.keys().filter(|it| it.1 == Role::Allows).map(|it| it.0.clone()).collect();
        // An object that allows one port is not listed again because it does not allow another one.
        let is_listed = |it: &(ObjectRef, Role)| it.1 != Role::Considered || !allows.contains(&it.0);
        let mut uses: Vec<Use> = self
            .0
            .into_iter()
            .filter(|(it, _)| is_listed(it))
            .map(|((object, role), matches)| Use { object, role, matches: matches.into_iter().collect() })
            .collect();
        uses.sort_by(|a, b| (a.role, &a.object).cmp(&(b.role, &b.object)));
        uses
    }
}

/// Returns the findings about objects that matter: those that have a role, and, where not everything passes, those that
/// might have had one.
pub(super) fn findings(
    inputs: &Inputs,
    findings: &[Finding],
    used: &[Use],
    goal: &Callee<'_>,
    shares: &[Share],
    verdict: Verdict,
) -> Vec<Finding> {
    let mut matter: BTreeSet<ObjectRef> = used.iter().map(|it| it.object.clone()).collect();
    if let CalleeKind::Service(service) = &goal.kind {
        matter.insert(ObjectRef::new("Service", &service.id.namespace, &service.id.name));
        matter.extend(splits(inputs, &service.id.namespace, &service.id.name));
        let machines = service.machines.iter();
        matter.extend(machines.map(|name| ObjectRef::new(MACHINE, &service.id.namespace, name)));
        // A target that names the Service as its destination is about an account of that name.
        let by_name = inputs
            .traffic_targets
            .iter()
            .filter(|(key, it)| key.0 == service.id.namespace && it.spec.destination.name == service.id.name);
        matter.extend(by_name.map(|(key, _)| ObjectRef::new("TrafficTarget", &key.0, &key.1)));
    }
    for key in shares.iter().filter_map(|share| key(share.service.as_deref()?)) {
        matter.insert(ObjectRef::new("Service", key.0, key.1));
    }
    let is_doubtful = verdict != Verdict::Allowed
        || shares.iter().flat_map(|share| &share.destinations).any(|it| it.policy != Verdict::Allowed);
    for destination in shares.iter().flat_map(|share| &share.destinations) {
        matter.insert(ObjectRef::new("Namespace", "", &destination.id.namespace));
        let machines = inputs.external_workloads.iter().filter(|(key, machine)| {
            let account = machine.spec.service_account.as_deref().unwrap_or("default");
            key.0 == destination.id.namespace && account == destination.id.service_account
        });
        matter.extend(machines.map(|(key, _)| ObjectRef::new(MACHINE, &key.0, &key.1)));
        let about = inputs.traffic_targets.iter().filter(|(key, it)| {
            let named = it.spec.destination.namespace.as_deref().filter(|namespace| !namespace.is_empty());
            named.unwrap_or(&key.0) == destination.id.namespace
                && it.spec.destination.name == destination.id.service_account
        });
        for (key, target) in about.filter(|_| is_doubtful && destination.mode != "permissive") {
            matter.extend(parts(key, target));
        }
    }
    findings.iter().filter(|finding| matter.contains(&finding.object)).cloned().collect()
}

/// Returns the splits that may be meant for a Service, in effect or not.
fn splits(inputs: &Inputs, namespace: &str, name: &str) -> Vec<ObjectRef> {
    let of_namespace = inputs.traffic_splits.iter().filter(|(key, _)| key.0 == namespace);
    let is_about = |key: &Key, root: &str| key.1 == name || root.split('.').next() == Some(name);
    of_namespace
        .filter(|(key, split)| is_about(key, &split.spec.service))
        .map(|(key, _)| ObjectRef::new("TrafficSplit", &key.0, &key.1))
        .collect()
}

/// Returns a target and every object that it refers to.
fn parts(key: &Key, target: &TrafficTarget) -> BTreeSet<ObjectRef> {
    let rules = target.spec.rules.iter().map(|rule| ObjectRef::new(&rule.kind, &key.0, &rule.name));
    let bindings = target.spec.sources.iter().filter(|source| source.kind == "IdentityBinding");
    let bindings = bindings.map(|source| {
        let (namespace, name) = binding(key, source);
        ObjectRef::new("IdentityBinding", namespace, name)
    });
    let itself = ObjectRef::new("TrafficTarget", &key.0, &key.1);
    rules.chain(bindings).chain([itself]).collect()
}

/// Returns the key of the object that a subject of a target names.
fn binding(target: &Key, subject: &Subject) -> Key {
    let namespace = subject.namespace.as_deref().filter(|it| !it.is_empty()).unwrap_or(&target.0);
    (namespace.to_owned(), subject.name.clone())
}

fn key(text: &str) -> Option<Key> {
    text.split_once('/').map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
}
