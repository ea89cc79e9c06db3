//! Finds what differs between two snapshots, for the users' objects and the proxies that they concern: at the cost of
//! what differs, and however many snapshots there were in between.
//!
//! Part of `snapshot`; used to count which proxies have acknowledged what. Excludes endpoints: no object states them.

use std::{collections::BTreeSet, sync::Arc};

use imbl::OrdSet;

use super::Snapshot;
use crate::{
    mesh::{
        change::{Change, changes},
        id::{ClassId, ProxyId, ServiceId},
        source::SourceRef,
    },
    provenance::{self, Location},
    resources::Resource,
};

/// Difference between two snapshots.
#[derive(Debug, Default)]
pub struct Difference {
    /// Sources that are at other locations, or whose resources have other names or are seen by other classes.
    pub sources: BTreeSet<SourceRef>,
    /// All other sources whose resources have changed: the proxies that they concern are as before.
    pub content_changed: BTreeSet<SourceRef>,
    /// Classes that are new or gone, or have other instances.
    pub classes: BTreeSet<ClassId>,
    /// Classes whose inbound side has changed.
    pub inbound: BTreeSet<ClassId>,
    /// Instances that are new or gone, or of another class.
    pub proxies: BTreeSet<ProxyId>,
}

impl Snapshot {
    /// Returns what differs from an `earlier` snapshot.
    pub fn since(&self, earlier: &Self) -> Difference {
        let mut difference = Difference::default();
        for Change { key: statement, old, new } in self.provenance.since(&earlier.provenance) {
            let is_restated = old.zip(new).is_some_and(|(old, new)| provenance::is_named_alike(old, new));
            let Difference { sources, content_changed, .. } = &mut difference;
            if is_restated { content_changed } else { sources }.insert(statement.clone());
        }
        for service in self.reach.since(&earlier.reach) {
            let ports = earlier.routed_ports(service).chain(self.routed_ports(service));
            difference.sources.extend(ports.map(|(_, statement)| statement));
        }
        let (before, index) = (earlier.resources.index(), self.resources.index());
        for Change { key: identity, old, new } in changes(&before.classes, &index.classes) {
            // A new class sees what its identity could already call.
            for (service, number) in self.reach.of(identity) {
                let ports = self.routed_ports(service).filter(|(port, _)| port == number);
                difference.sources.extend(ports.map(|(_, statement)| statement));
            }
            for class in moved(old, new) {
                difference.classes.insert(class.clone());
                let instances = before.instances(class).chain(index.instances(class));
                difference.proxies.extend(instances.cloned());
            }
        }
        for Change { key: class, old, new } in changes(&before.instances, &index.instances) {
            difference.classes.insert(class.clone());
            difference.proxies.extend(moved(old, new).into_iter().cloned());
        }
        difference.inbound.extend(self.resources.other_classes(&earlier.resources).cloned());
        difference.content_changed.retain(|statement| !difference.sources.contains(statement));
        difference
    }

    /// Returns the ports of a Service whose route has origins, with each of these.
    fn routed_ports(&self, service: &ServiceId) -> impl Iterator<Item = (u16, SourceRef)> {
        let ports = self.mesh.services.get(service).into_iter().flat_map(|service| &service.ports);
        ports.flat_map(|(number, port)| {
            port.route.origins().into_iter().map(|origin| (*number, origin.clone())).collect::<Vec<_>>()
        })
    }

    /// Returns the classes that see the resources of a location; `None` means all.
    pub fn audience(&self, place: &Location) -> Option<Vec<&ClassId>> {
        let index = self.resources.index();
        match place {
            Location::Identity(_) => Some(Vec::new()),
            Location::Class(class) => {
                Some(self.mesh.classes.get_key_value(class).map(|(id, _)| id).into_iter().collect())
            }
            Location::Port(service, number) => {
                let callers = self.reach.callers(service, *number)?;
                Some(callers.into_iter().flat_map(|identity| index.classes(identity)).collect())
            }
        }
    }

    /// Returns the class of a proxy, if the mesh has that class.
    pub fn class(&self, proxy: &ProxyId) -> Option<&ClassId> {
        let class = &self.mesh.workloads.get(proxy)?.class;
        self.mesh.classes.contains_key(class).then_some(class)
    }

    /// Returns the number of proxies of a class, if the mesh has that class, else 0.
    pub fn instances(&self, class: &ClassId) -> usize {
        if self.mesh.classes.contains_key(class) { self.resources.index().count(class) } else { 0 }
    }

    /// Returns the inbound side of a class.
    pub fn inbound(&self, class: &ClassId) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.class(class)
    }
}

/// Returns the elements that only one of two sets has.
fn moved<'a, V: Ord>(old: Option<&'a OrdSet<V>>, new: Option<&'a OrdSet<V>>) -> Vec<&'a V> {
    use imbl::ordset::DiffItem as Item;
    match (old, new) {
        (Some(old), Some(new)) => {
            let item = |item| match item {
                Item::Add(it) | Item::Remove(it) => it,
            };
            old.diff(new).map(item).collect()
        }
        (only, None) | (None, only) => only.into_iter().flatten().collect(),
    }
}
