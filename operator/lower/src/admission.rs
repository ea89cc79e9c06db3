//! Turns an object that somebody wants to store into a verdict: what is wrong with it, and what its owner should know.
//!
//! Pure. The judges are the functions of `lower`, asked twice: about a world that holds nothing but the object, for what
//! no other object could ever mend; and about the object among its neighbours, for what it refers to. Called by
//! `webhook::validation`. Decides by `Reason::admission` alone and has no rule of its own, so what is refused here is
//! exactly what would have no effect there. Why it is made so: docs/design/005-admission.md.

mod referenced_objects;
mod reviewed_object;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use smidge_mesh::id::ClusterId;

pub use self::referenced_objects::referenced_objects;
use self::reviewed_object::ReviewedObject;
use crate::{
    finding::{Admission, AffectedCondition, Finding, ObjectRef},
    inputs::Inputs,
    lower,
};

/// What is known of the world outside the object.
#[derive(Debug, Clone)]
pub struct Current {
    /// The objects that the object may refer to, see [`referenced_objects`].
    pub inputs: Inputs,
    /// Whether they were read at all. If not, nothing is said about what is not there.
    pub read: bool,
}

/// An object that somebody wants to store.
#[derive(Debug)]
pub struct Review {
    new: ReviewedObject,
    old: Option<ReviewedObject>,
}

/// What is to become of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Why it is refused; admitted if empty.
    pub refused: Vec<Finding>,
    /// What its owner should know either way.
    pub warnings: Vec<Finding>,
}

impl Review {
    /// The question whether `object` may be stored in the place of `old`. None if there is nothing to ask: it is no kind
    /// of ours, or says nothing else than before.
    pub fn new(namespace: &str, name: &str, object: &Value, old: Option<&Value>) -> Option<Self> {
        let new = ReviewedObject::read(namespace, name, object)?;
        let old = old.and_then(|old| ReviewedObject::read(namespace, name, old));
        let is_unchanged = old.as_ref().is_some_and(|old| old.says_the_same(&new));
        (!is_unchanged).then_some(Self { new, old })
    }

    /// The object.
    pub fn object(&self) -> &ObjectRef {
        &self.new.object
    }

    /// The version that it was written in.
    pub fn version(&self) -> &str {
        &self.new.version
    }

    /// The namespaces whose objects it may refer to: its own, and those that it names.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.new.namespaces()
    }

    /// The verdict.
    pub fn judge(&self, current: &Current) -> Verdict {
        let alone = self.new.findings(&referenced_objects::none(&current.inputs));
        let known = self.old.as_ref().map(|old| old.findings(&referenced_objects::none(&current.inputs)));
        // What was wrong before is no reason to refuse another change: whoever makes it may have nothing to do with it.
        let is_old = |finding: &Finding| {
            known.iter().flatten().any(|old| old.reason == finding.reason && old.message == finding.message)
        };
        let of = |admission: Admission| move |finding: &&Finding| finding.reason.admission() == admission;
        let (old, refused): (Vec<_>, Vec<_>) =
            alone.iter().filter(of(Admission::Refuse)).cloned().partition(is_old);
        let mut warnings = old;
        if current.read {
            let among = self.new.findings(&current.inputs);
            warnings.extend(among.iter().filter(of(Admission::Warn)).cloned());
        } else {
            let is_own = |finding: &&Finding| finding.reason.condition() != AffectedCondition::ResolvedRefs;
            warnings.extend(alone.iter().filter(of(Admission::Warn)).filter(is_own).cloned());
        }
        Verdict { refused, warnings }
    }
}

impl ReviewedObject {
    /// What is found about it in the world that `inputs` are together with it.
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
