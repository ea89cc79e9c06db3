//! What differs between two meshes, found at the cost of what differs: maps share what they have in common.
//!
//! Asked by `resources`, `reach` and `snapshot`, which go on with what did not change. Decides nothing.

use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::{
    Map, Mesh,
    access::Grant,
    id::{ClassId, ProxyId, ServiceId, SpiffeId},
    service::Service,
    workload::{Class, Workload},
};

/// One entry that differs: what it was and what it is. At least one of the two is there.
#[derive(Debug)]
pub(crate) struct Change<'a, K, V> {
    /// Its name.
    pub key: &'a K,
    /// What it was; `None` if it is new.
    pub old: Option<&'a Arc<V>>,
    /// What it is; `None` if it is gone.
    pub new: Option<&'a Arc<V>>,
}

/// All that differs between two meshes.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    /// Whether the trust differs, which everything depends on.
    pub trust: bool,
    pub services: Vec<Change<'a, ServiceId, Service>>,
    pub workloads: Vec<Change<'a, ProxyId, Workload>>,
    pub classes: Vec<Change<'a, ClassId, Class>>,
    pub grants: Vec<Change<'a, SpiffeId, Vec<Arc<Grant>>>>,
}

impl<'a> Changes<'a> {
    /// The changes from `old` to `new`.
    pub fn between(old: &'a Mesh, new: &'a Mesh) -> Self {
        Self {
            trust: old.trust != new.trust,
            services: changes(&old.services, &new.services),
            workloads: changes(&old.workloads, &new.workloads),
            classes: changes(&old.classes, &new.classes),
            grants: changes(&old.grants, &new.grants),
        }
    }
}

fn changes<'a, K: Ord, V: Eq>(old: &'a Map<K, V>, new: &'a Map<K, V>) -> Vec<Change<'a, K, V>> {
    let change = |item| match item {
        DiffItem::Add(key, new) => Change { key, old: None, new: Some(new) },
        DiffItem::Update { old: (_, old), new: (key, new) } => Change { key, old: Some(old), new: Some(new) },
        DiffItem::Remove(key, old) => Change { key, old: Some(old), new: None },
    };
    old.diff(new).map(change).collect()
}
