//! Index from objects to their findings, and the objects whose findings differ from those before.
//!
//! Used by `judge`. Pure. Findings are sorted, errors first: two lists are read side by side, and a finding that is in
//! both costs one comparison. The same list as before (by pointer) costs nothing.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

use smidge_crds::conversion;

use crate::finding::{Finding, ObjectRef, Severity};

/// Findings, in order.
#[derive(Debug, Default)]
pub(super) struct Found(Arc<Vec<Finding>>);

impl Found {
    /// Replaces the findings; returns the objects that have a status and whose findings differ from those before.
    pub fn take(&mut self, findings: &Arc<Vec<Finding>>) -> BTreeSet<ObjectRef> {
        if Arc::ptr_eq(&self.0, findings) {
            return BTreeSet::new();
        }
        let before = std::mem::replace(&mut self.0, Arc::clone(findings));
        let (mut old, mut new) = (before.iter().peekable(), findings.iter().peekable());
        let mut differs = BTreeSet::new();
        loop {
            let first = match (old.peek(), new.peek()) {
                (None, None) => return differs,
                (Some(old), Some(new)) => old.cmp(new),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            let gone = old.next_if(|_| first.is_le());
            let come = new.next_if(|_| first.is_ge());
            let finding = gone.xor(come).filter(|finding| has_status(&finding.object));
            differs.extend(finding.map(|finding| finding.object.clone()));
        }
    }

    /// Returns the findings about an object, errors first.
    pub fn of(&self, object: &ObjectRef) -> Vec<&Finding> {
        let of = |severity: Severity| {
            let start = self.0.partition_point(|it| (it.severity, &it.object) < (severity, object));
            let rest = self.0.get(start..).unwrap_or_default();
            rest.iter().take_while(move |it| it.severity == severity && it.object == *object)
        };
        of(Severity::Error).chain(of(Severity::Warning)).collect()
    }
}

/// Returns true if the object has a status: the kinds of the mesh have one, and no others.
fn has_status(object: &ObjectRef) -> bool {
    conversion::group(&object.kind).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Reason;

    #[test]
    fn what_is_found_anew_or_otherwise_or_no_longer_is_reported_once() {
        let object = |name: &str| ObjectRef::new("TCPRoute", "shop", name);
        let finding = |name: &str, text: &str| {
            let reason = if text == "9" { Reason::RouteNotFound } else { Reason::Empty };
            Finding::new(object(name), reason, text)
        };
        let list = |all: &[(&str, &str)]| {
            Arc::new(all.iter().map(|(name, text)| finding(name, text)).collect::<Vec<_>>())
        };
        let mut found = Found::default();
        let take = |found: &mut Found, all: &[(&str, &str)]| Vec::from_iter(found.take(&list(all)));
        assert_eq!(take(&mut found, &[("a", "1"), ("b", "1")]), [object("a"), object("b")]);
        assert!(take(&mut found, &[("a", "1"), ("b", "1")]).is_empty());
        // A new finding at the front shifts all others in the list.
        assert_eq!(take(&mut found, &[("a", "0"), ("a", "1"), ("b", "1")]), [object("a")]);
        assert_eq!(found.of(&object("b")), [&finding("b", "1")]);
        // Warnings come after the errors of all objects.
        assert_eq!(
            take(&mut found, &[("a", "1"), ("b", "1"), ("a", "9"), ("c", "9")]),
            [object("a"), object("c")]
        );
        assert_eq!(found.of(&object("a")), [&finding("a", "1"), &finding("a", "9")]);
        assert_eq!(found.of(&object("c")), [&finding("c", "9")]);
        assert_eq!(take(&mut found, &[("b", "1"), ("c", "9")]), [object("a")]);
        assert!(found.of(&object("a")).is_empty());
    }

    #[test]
    fn objects_without_status_are_not_reported() {
        let service = Finding::new(ObjectRef::new("Service", "shop", "a"), Reason::NotInMesh, "");
        assert!(Found::default().take(&Arc::new(vec![service])).is_empty());
    }
}
