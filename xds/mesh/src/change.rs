//! Finds the differences between two meshes, at the cost of what differs: maps share what they have in common.
//!
//! Used by `resources`, `reach`, `provenance` and `snapshot`, which reuse what did not change. Decides nothing.

use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};

use super::{
    Mesh,
    access::Grant,
    id::{ClassId, ProxyId, ServiceId, SpiffeId},
    service::Service,
    workload::{Class, Workload},
};

/// Entry that differs, with its old and its new value. At least one of the two exists.
#[derive(Debug)]
pub struct Change<'a, K, V> {
    /// The key of the entry.
    pub key: &'a K,
    /// The old value; `None` if the entry is new.
    pub old: Option<&'a V>,
    /// The new value; `None` if the entry was removed.
    pub new: Option<&'a V>,
}

/// All differences between two meshes.
#[derive(Debug)]
pub struct Changes<'a> {
    /// True if the trust or the settings differ, on which everything depends.
    pub mesh_wide: bool,
    /// The Services that differ.
    pub services: Vec<Change<'a, ServiceId, Arc<Service>>>,
    /// The workload instances that differ.
    pub workloads: Vec<Change<'a, ProxyId, Arc<Workload>>>,
    /// The classes that differ.
    pub classes: Vec<Change<'a, ClassId, Arc<Class>>>,
    /// The grants that differ, by the destination identity that they belong to.
    pub grants: Vec<Change<'a, SpiffeId, Arc<Vec<Arc<Grant>>>>>,
}

impl<'a> Changes<'a> {
    /// Returns the changes from `old` to `new`.
    pub fn between(old: &'a Mesh, new: &'a Mesh) -> Self {
        Self {
            mesh_wide: old.trust != new.trust || old.settings != new.settings,
            services: changes(&old.services, &new.services).collect(),
            workloads: changes(&old.workloads, &new.workloads).collect(),
            classes: changes(&old.classes, &new.classes).collect(),
            grants: changes(&old.grants, &new.grants).collect(),
        }
    }

    /// Returns the identities whose inbound side may differ in `mesh`, the result of these changes. A change of the
    /// trust or the settings affects every identity.
    pub fn identities<'m>(&'m self, mesh: &'m Mesh) -> BTreeSet<&'m SpiffeId> {
        let every_class = self.mesh_wide.then(|| mesh.classes.values()).into_iter().flatten();
        let classes = self.classes.iter().flat_map(|change| change.old.into_iter().chain(change.new));
        let identities = classes.chain(every_class).map(|class| &class.identity);
        identities.chain(self.grants.iter().map(|change| change.key)).collect()
    }
}

/// Returns the entries that differ between two maps, at the cost of what the maps do not share.
pub fn changes<'a, K: Ord, V: PartialEq>(
    old: &'a OrdMap<K, V>,
    new: &'a OrdMap<K, V>,
) -> impl Iterator<Item = Change<'a, K, V>> {
    old.diff(new).map(|item| match item {
        DiffItem::Add(key, new) => Change { key, old: None, new: Some(new) },
        DiffItem::Update { old: (_, old), new: (key, new) } => Change { key, old: Some(old), new: Some(new) },
        DiffItem::Remove(key, old) => Change { key, old: Some(old), new: None },
    })
}
