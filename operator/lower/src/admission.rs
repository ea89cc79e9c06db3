//! Turns an object that is about to be stored into a verdict: errors for which it is refused, and warnings for its
//! owner.
//!
//! Pure. Evaluates the object with the functions of `lower`, twice: alone, for errors that no other object could ever
//! repair; and among the objects that it may refer to, for its references. Called by `webhook::validation`. Decides by
//! `Reason::admission` alone and has no rule of its own, so what is refused here is exactly what would have no effect
//! there. Reasons for this design: docs/design/005-admission.md.

mod referenced_objects;
mod reviewed_object;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use smidge_mesh::id::ClusterId;

pub use self::referenced_objects::referenced_objects;
use self::reviewed_object::ReviewedObject;
use crate::{
    finding::{Admission, AffectedCondition, Finding, ObjectRef, Reason},
    inputs::Inputs,
    lowering::lower,
};

/// Current state of the cluster around the object.
#[derive(Debug, Clone)]
pub struct Current {
    /// The objects that the object may refer to, see [`referenced_objects`].
    pub inputs: Inputs,
    /// True if they were read at all. If not, no finding reports a missing object.
    pub read: bool,
}

/// An object that is about to be stored.
#[derive(Debug)]
pub struct Review {
    new: ReviewedObject,
    old: Option<ReviewedObject>,
}

/// Verdict on a review.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Errors for which it is refused; admitted if empty.
    pub refused: Vec<Finding>,
    /// Warnings for its owner, whether it is refused or admitted.
    pub warnings: Vec<Finding>,
}

impl Review {
    /// Returns the review of `object` in the place of `old`. Returns `None` if there is nothing to review: the object
    /// is of no kind of SMI or Smidge, or its content is unchanged.
    pub fn new(namespace: &str, name: &str, object: &Value, old: Option<&Value>) -> Option<Self> {
        let new = ReviewedObject::read(namespace, name, object)?;
        let old = old.and_then(|old| ReviewedObject::read(namespace, name, old));
        let is_unchanged = old.as_ref().is_some_and(|old| old.has_same_content(&new));
        (!is_unchanged).then_some(Self { new, old })
    }

    /// The object.
    pub fn object(&self) -> &ObjectRef {
        &self.new.object
    }

    /// The version in which it was written.
    pub fn version(&self) -> &str {
        &self.new.version
    }

    /// The namespaces whose objects it may refer to: its own, and those that it names.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.new.namespaces()
    }

    /// Returns the verdict.
    pub fn judge(&self, current: &Current) -> Verdict {
        let alone = self.new.findings(&referenced_objects::none(&current.inputs));
        let known = self.old.as_ref().map(|old| old.findings(&referenced_objects::none(&current.inputs)));
        // An error that existed before is no reason to refuse another change: the user who makes it may not be
        // responsible for it.
        let is_old = |finding: &Finding| {
            known.iter().flatten().any(|old| old.reason == finding.reason && old.message == finding.message)
        };
        let of = |admission: Admission| move |finding: &&Finding| finding.reason.admission() == admission;
        let (old, refused): (Vec<_>, Vec<_>) =
            alone.iter().filter(of(Admission::Refuse)).cloned().partition(is_old);
        let mut warnings = old;
        if current.read {
            let among = self.new.findings(&current.inputs);
            // Once: an object can have as many findings as sources.
            let exceeds = self.new.exceeds_namespaces();
            let is_known = |finding: &&Finding| !exceeds || finding.reason != Reason::BindingNotFound;
            warnings.extend(among.iter().filter(of(Admission::Warn)).filter(is_known).cloned());
        } else {
            let is_own = |finding: &&Finding| finding.reason.condition() != AffectedCondition::ResolvedRefs;
            warnings.extend(alone.iter().filter(of(Admission::Warn)).filter(is_own).cloned());
        }
        // Several fields may name the same missing object: one warning is enough.
        let mut seen = BTreeSet::new();
        warnings.retain(|finding| seen.insert((finding.reason, finding.message.clone())));
        Verdict { refused, warnings }
    }
}

impl ReviewedObject {
    /// Returns the findings about the object, lowered together with `inputs`.
    fn findings(&self, inputs: &Inputs) -> Vec<Finding> {
        let mut inputs = inputs.clone();
        if let Some(finding) = self.put_into(&mut inputs) {
            return vec![finding];
        }
        let (_, mut findings) = lower(&BTreeMap::from([(ClusterId::default(), inputs)]));
        findings.retain(|finding| finding.object == self.object);
        findings
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_in_namespaces_that_are_not_read_are_not_reported_as_missing() {
        let warnings = |kind: &str, reason: Reason, namespaces: usize| {
            let source = |number| json!({"kind": kind, "name": "b", "namespace": format!("n{number}")});
            let target = json!({
                "apiVersion": "access.smi-spec.io/v1alpha4", "kind": "TrafficTarget",
                "metadata": {"name": "t", "namespace": "shop"},
                "spec": {
                    "destination": {"kind": "ServiceAccount", "name": "web"},
                    "sources": (0..namespaces).map(source).collect::<Vec<_>>(),
                    "rules": [{"kind": "TCPRoute", "name": "r"}],
                },
            });
            let review = Review::new("shop", "t", &target, None).unwrap();
            assert!(review.namespaces().len() <= 32 && review.namespaces().contains("shop"));
            let verdict = review.judge(&Current { inputs: Inputs::default(), read: true });
            verdict.warnings.iter().filter(|finding| finding.reason == reason).count()
        };
        let bindings = |namespaces| warnings("IdentityBinding", Reason::BindingNotFound, namespaces);
        assert_eq!((bindings(3), bindings(31), bindings(32), bindings(100)), (3, 31, 0, 0));
        // Everything else is still reported.
        for kind in ["IdentityBinding", "ServiceAccount"] {
            assert_eq!(warnings(kind, Reason::RouteNotFound, 40), 1, "{kind}");
        }
    }
}
