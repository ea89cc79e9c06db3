//! What was found about each object, looked up by object; and about which something else was found than before.
//!
//! Used by `judge`. Pure. Findings that are the very list of before cost nothing.

use std::{collections::BTreeMap, sync::Arc};

use super::object::KINDS;
use crate::finding::{Finding, ObjectRef};

/// The findings about objects that have a status.
#[derive(Debug, Default)]
pub(super) struct Found {
    all: Arc<Vec<Finding>>,
    /// Where those about an object are.
    places: BTreeMap<ObjectRef, Vec<usize>>,
}

impl Found {
    /// Goes on with these findings; the objects about which something else was found before.
    pub fn take(&mut self, findings: &Arc<Vec<Finding>>) -> Vec<ObjectRef> {
        if Arc::ptr_eq(&self.all, findings) {
            return Vec::new();
        }
        let mut places: BTreeMap<ObjectRef, Vec<usize>> = BTreeMap::new();
        let own = findings.iter().enumerate();
        for (place, finding) in own.filter(|(_, finding)| KINDS.contains(&finding.object.kind.as_str())) {
            if let Some(places) = places.get_mut(&finding.object) {
                places.push(place);
            } else {
                places.insert(finding.object.clone(), vec![place]);
            }
        }
        let now = Self { all: Arc::clone(findings), places };
        let before = std::mem::replace(self, now);
        let gone = before.places.keys().filter(|object| !self.places.contains_key(*object));
        let here = self.places.keys().filter(|object| self.of(object) != before.of(object));
        gone.chain(here).cloned().collect()
    }

    /// What was found about an object, errors first.
    pub fn of(&self, object: &ObjectRef) -> Vec<&Finding> {
        let places = self.places.get(object).into_iter().flatten();
        places.filter_map(|place| self.all.get(*place)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Reason;

    #[test]
    fn what_is_found_anew_or_otherwise_or_no_longer_is_told_once() {
        let object = |name: &str| ObjectRef::new("TCPRoute", "shop", name);
        let finding = |name: &str, text: &str| Finding::new(object(name), Reason::Empty, text);
        let list = |all: &[(&str, &str)]| {
            Arc::new(all.iter().map(|(name, text)| finding(name, text)).collect::<Vec<_>>())
        };
        let mut found = Found::default();
        assert_eq!(found.take(&list(&[("a", "1"), ("b", "1")])), [object("a"), object("b")]);
        assert!(found.take(&list(&[("a", "1"), ("b", "1")])).is_empty());
        // One more in front moves all others in the list.
        let now = list(&[("a", "0"), ("a", "1"), ("b", "1")]);
        assert_eq!(found.take(&now), [object("a")]);
        assert_eq!(found.of(&object("b")), [&finding("b", "1")]);
        assert_eq!(found.take(&list(&[("b", "1")])), [object("a")]);
    }
}
