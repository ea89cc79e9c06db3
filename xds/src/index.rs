//! Index from identity to classes, and from class to instances.
//!
//! Pure. Kept from mesh to mesh by `resources` and `reach` at the cost of what changed, so that a computation that
//! starts from an identity or a class need not visit all of them. Decides nothing.

use imbl::{OrdMap, OrdSet};

use crate::mesh::{
    change::Changes,
    id::{ClassId, ProxyId, SpiffeId},
};

/// Reverse index of the mesh's workloads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub classes: OrdMap<SpiffeId, OrdSet<ClassId>>,
    pub instances: OrdMap<ClassId, OrdSet<ProxyId>>,
}

impl Index {
    /// Returns the index after `changes`.
    pub fn next(&self, changes: &Changes<'_>) -> Self {
        let mut next = self.clone();
        for change in &changes.classes {
            if let Some(old) = change.old {
                remove(&mut next.classes, &old.identity, change.key);
            }
            if let Some(new) = change.new {
                next.classes.entry(new.identity.clone()).or_default().insert(change.key.clone());
            }
        }
        for change in &changes.workloads {
            if let Some(old) = change.old {
                remove(&mut next.instances, &old.class, change.key);
            }
            if let Some(new) = change.new {
                next.instances.entry(new.class.clone()).or_default().insert(change.key.clone());
            }
        }
        next
    }

    /// Returns the classes of an identity.
    pub fn classes(&self, identity: &SpiffeId) -> impl Iterator<Item = &ClassId> {
        self.classes.get(identity).into_iter().flatten()
    }

    /// Returns the instances of a class.
    pub fn instances(&self, class: &ClassId) -> impl Iterator<Item = &ProxyId> {
        self.instances.get(class).into_iter().flatten()
    }

    /// Returns the number of instances of a class.
    pub fn count(&self, class: &ClassId) -> usize {
        self.instances.get(class).map_or(0, OrdSet::len)
    }
}

/// Removes `value` from the set of `key`, and the set with it if it was the last.
pub(crate) fn remove<K: Ord + Clone, V: Ord + Clone>(sets: &mut OrdMap<K, OrdSet<V>>, key: &K, value: &V) {
    let Some(set) = sets.get_mut(key) else { return };
    set.remove(value);
    if set.is_empty() {
        sets.remove(key);
    }
}
