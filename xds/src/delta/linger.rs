//! Holds the removal of clusters until the listeners that led to them have drained.
//!
//! Pure: part of `Session`; the owner of the stream measures the time. Envoy drains the listeners of a Service that has left
//! the view for some seconds: a connection that an application has kept gets one more answer, with the order to close it.
//! Without its cluster that answer would be an error.

use std::{collections::BTreeSet, mem, sync::Arc};

/// Clusters that are to be removed, by the number of times that their owner has waited: not yet, once, and twice, so that
/// each waits for at least the whole time.
#[derive(Debug, Default)]
pub(super) struct Linger {
    young: BTreeSet<Arc<str>>,
    old: BTreeSet<Arc<str>>,
    over: BTreeSet<Arc<str>>,
}

impl Linger {
    /// Returns true, once, if a cluster is to be removed now, of all that the client shall not have.
    pub(super) fn is_over(&mut self, name: &Arc<str>) -> bool {
        if self.over.remove(name) {
            return true;
        }
        if !self.old.contains(name) {
            self.young.insert(Arc::clone(name));
        }
        false
    }

    /// Forgets the clusters that the client shall have again.
    pub(super) fn retain(&mut self, is_to_be_removed: impl Fn(&str) -> bool) {
        for names in [&mut self.young, &mut self.old, &mut self.over] {
            names.retain(|name| is_to_be_removed(name));
        }
    }

    /// Returns true while a cluster waits.
    pub(super) fn waits(&self) -> bool {
        !self.young.is_empty() || !self.old.is_empty()
    }

    /// Notes that the owner has waited.
    pub(super) fn age(&mut self) {
        self.over.append(&mut self.old);
        self.old = mem::take(&mut self.young);
    }
}
