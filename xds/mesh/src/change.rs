//! What differs between two meshes, found at the cost of what differs: maps share what they have in common.
//!
//! Asked by `resources`, `reach`, `provenance` and `snapshot`, which go on with what did not change. Decides nothing.

use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};

use super::{
    Mesh,
    access::Grant,
    id::{ClassId, ProxyId, ServiceId, SpiffeId},
    service::Service,
    workload::{Class, Workload},
};

/// One entry that differs: what it was and what it is. At least one of the two is there.
#[derive(Debug)]
pub struct Change<'a, K, V> {
    /// Its name.
    pub key: &'a K,
    /// What it was; `None` if it is new.
    pub old: Option<&'a V>,
    /// What it is; `None` if it is gone.
    pub new: Option<&'a V>,
}

/// All that differs between two meshes.
#[derive(Debug)]
pub struct Changes<'a> {
    /// Whether the trust differs, which everything depends on.
    pub trust: bool,
    /// Services.
    pub services: Vec<Change<'a, ServiceId, Arc<Service>>>,
    /// Workload instances.
    pub workloads: Vec<Change<'a, ProxyId, Arc<Workload>>>,
    /// Classes.
    pub classes: Vec<Change<'a, ClassId, Arc<Class>>>,
    /// Grants, by the identity that allows them.
    pub grants: Vec<Change<'a, SpiffeId, Arc<Vec<Arc<Grant>>>>>,
}

impl<'a> Changes<'a> {
    /// The changes from `old` to `new`.
    pub fn between(old: &'a Mesh, new: &'a Mesh) -> Self {
        Self {
            trust: old.trust != new.trust,
            services: changes(&old.services, &new.services).collect(),
            workloads: changes(&old.workloads, &new.workloads).collect(),
            classes: changes(&old.classes, &new.classes).collect(),
            grants: changes(&old.grants, &new.grants).collect(),
        }
    }

    /// The identities whose inbound side may differ in `mesh`, which these changes lead to: whom the mesh trusts is part of
    /// every one.
    pub fn identities<'m>(&'m self, mesh: &'m Mesh) -> BTreeSet<&'m SpiffeId> {
        let everybody = self.trust.then(|| mesh.classes.values()).into_iter().flatten();
        let classes = self.classes.iter().flat_map(|change| change.old.into_iter().chain(change.new));
        let identities = classes.chain(everybody).map(|class| &class.identity);
        identities.chain(self.grants.iter().map(|change| change.key)).collect()
    }
}

/// The entries that differ between two maps, at the cost of what these do not share.
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
