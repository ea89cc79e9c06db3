//! Reads the subjects of a TrafficTarget: the identities of its sources and of its destination.

use std::{collections::BTreeSet, sync::Arc};

use smidge_crds::access::{self, Subject};
use smidge_mesh::id::SpiffeId;

use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::{Key, is_name},
};

/// Defect of a subject: the reason, the field below it, and the message.
type Defect = (Reason, &'static str, String);

/// Reads the subjects of one target.
pub(crate) struct SubjectReader<'a, 'l> {
    /// Namespace and name of the target.
    pub key: &'a Key,
    pub object: &'a ObjectRef,
    pub context: &'a mut Context<'l>,
}

impl SubjectReader<'_, '_> {
    /// Returns the protected identities: those of the target's own namespace alone, as only its owner may open it.
    pub fn destination(&mut self, subject: &Subject) -> BTreeSet<Arc<SpiffeId>> {
        const FIELD: &str = "spec.destination";
        let mut identities = match self.identities(subject) {
            Ok(identities) => identities,
            Err(defect) => {
                self.report(FIELD, defect, "the target allows nothing");
                return BTreeSet::new();
            }
        };
        let own = self.key.0.as_str();
        let namespace = self.namespace(subject).to_owned();
        if namespace != own {
            let message = format!(
                "{namespace:?} is not the target's own namespace: only that can be granted access to"
            );
            let defect = (Reason::CrossNamespaceDestination, "namespace", message);
            let finding = self.finding(FIELD, defect, "the target allows nothing");
            self.context.report(finding.hint(format!("put the TrafficTarget into namespace {namespace}")));
            return BTreeSet::new();
        }
        self.keep_those_of(own, FIELD, &mut identities);
        identities
    }

    /// Returns the identities that may call.
    pub fn sources(&mut self, subjects: &[Subject]) -> BTreeSet<Arc<SpiffeId>> {
        if subjects.is_empty() {
            let message = "no source, so the target allows no call";
            self.context.report_at(self.object, Reason::Empty, "spec.sources", message);
        }
        let mut sources = BTreeSet::new();
        for (index, subject) in subjects.iter().enumerate() {
            let field = format!("spec.sources[{index}]");
            if subject.port.is_some() {
                let message = "a source's port is never looked at: calls come from any port".to_owned();
                let defect = (Reason::NoEffect, "port", message);
                self.report(&field, defect, "the field has no effect");
            }
            match self.identities(subject) {
                Ok(mut identities) => {
                    let namespace = self.namespace(subject).to_owned();
                    // Otherwise a user who may write a binding in any namespace could allow any identity here.
                    if subject.kind == BINDING && namespace != self.key.0 {
                        self.keep_those_of(&namespace, &field, &mut identities);
                    }
                    sources.extend(identities);
                }
                Err(defect) => self.report(&field, defect, "it allows no call"),
            }
        }
        sources
    }

    /// Keeps the identities of `namespace`, as a binding may only name identities of its own namespace.
    fn keep_those_of(&mut self, namespace: &str, field: &str, identities: &mut BTreeSet<Arc<SpiffeId>>) {
        identities.retain(|identity| {
            let is_own = identity.namespace == namespace;
            if !is_own {
                let message = format!("its binding names {identity}, which is not of namespace {namespace}");
                self.report(field, (Reason::NoEffect, "name", message), "that one is left out");
            }
            is_own
        });
    }

    fn namespace<'s>(&'s self, subject: &'s Subject) -> &'s str {
        subject.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(&self.key.0)
    }

    fn identities(&mut self, subject: &Subject) -> Result<BTreeSet<Arc<SpiffeId>>, Defect> {
        let Subject { group, kind, name, namespace: _, port: _ } = subject;
        if let Some(group) = group.as_deref().filter(|group| !is_access(group)) {
            let message = format!("{group:?} is no group of identities: expected {}", access::GROUP);
            return Err((Reason::InvalidKind, "group", message));
        }
        if kind != ACCOUNT && kind != BINDING {
            let found = if kind.is_empty() {
                "is missing".to_owned()
            } else {
                format!("{kind:?} is no kind of identity")
            };
            let message = format!("{found}: expected {ACCOUNT} or {BINDING}");
            return Err((Reason::InvalidKind, "kind", message));
        }
        if name.is_empty() {
            return Err((Reason::Empty, "name", "no name".to_owned()));
        }
        if let Some(defect) = invalid_name("name", name) {
            return Err(defect);
        }
        let namespace = self.namespace(subject).to_owned();
        if let Some(defect) = invalid_name("namespace", &namespace) {
            return Err(defect);
        }
        if kind == BINDING {
            let found = self.context.binding((namespace.clone(), name.clone()));
            return found.map(|found| BTreeSet::clone(&found)).ok_or_else(|| {
                let message = format!("there is no IdentityBinding {name} in namespace {namespace}");
                (Reason::BindingNotFound, "name", message)
            });
        }
        let identity = self.context.identity(&namespace, name);
        Ok(BTreeSet::from([Arc::new(identity)]))
    }

    fn report(&mut self, field: &str, defect: Defect, then: &str) {
        let finding = self.finding(field, defect, then);
        self.context.report(finding);
    }

    fn finding(&self, field: &str, (reason, below, message): Defect, then: &str) -> Finding {
        Finding::new(self.object.clone(), reason, format!("{message}; {then}")).at(format!("{field}.{below}"))
    }
}

const ACCOUNT: &str = "ServiceAccount";
const BINDING: &str = "IdentityBinding";

/// Returns the defect of a name that no object can have. Namespaces and ServiceAccounts are named like DNS subdomains.
fn invalid_name(field: &'static str, name: &str) -> Option<Defect> {
    let message = match name {
        _ if is_name(name) => return None,
        "*" => format!(
            "\"*\" is no {field}, and SMI has no wildcard: list each ServiceAccount with its namespace"
        ),
        _ => format!("{name:?} is not a valid {field}: expected lower-case letters, digits, '-' and '.'"),
    };
    Some((Reason::InvalidName, field, message))
}

/// Returns true if a group is empty or SMI's group of access. Users write an API version where an API group is
/// expected.
fn is_access(group: &str) -> bool {
    group.is_empty() || group.split('/').next() == Some(access::GROUP)
}
