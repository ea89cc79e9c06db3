//! Part of the pool that one proxy sees: for each type, the names that it may know and the resource of each name.
//!
//! Pure. Made from a snapshot for a class of proxies; consumed by `delta::Session`. Contains nothing that its proxy may
//! not know, and no secret.

use std::{
    cmp::Ordering,
    sync::{Arc, Weak},
};

use equivalent::{Comparable, Equivalent};
use imbl::{OrdMap, ordmap::DiffItem};

use crate::{
    mesh::{
        Mesh,
        id::{ClassId, ServiceId},
    },
    reach::{self, Reach},
    resources::{PortPart, Resource, ResourceType, Resources, ServicePart},
};

/// Resources by type and name.
pub type Named = OrdMap<(ResourceType, Arc<str>), Arc<Resource>>;

/// The resources of one proxy by type and name. Shared by all proxies of a class.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The resources. A comparison of two views skips what they share: snapshots reuse what did not change.
    pub resources: Named,
    step: Option<Step>,
}

/// Names whose resource is new, removed or of another version.
pub type Changes = Vec<(ResourceType, Arc<str>)>;

/// Step to a view: the view that its class had before, and what differs.
#[derive(Debug, Clone)]
struct Step {
    /// Only keeps the address from being reused.
    earlier: Weak<View>,
    changes: Arc<Changes>,
}

/// Compares the content of views, not the steps to them.
impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        self.resources == other.resources
    }
}

impl Eq for View {}

impl From<Named> for View {
    fn from(resources: Named) -> Self {
        Self { resources, step: None }
    }
}

/// Key of a lookup, which borrows the name.
struct Sought<'a>(ResourceType, &'a str);

impl Equivalent<(ResourceType, Arc<str>)> for Sought<'_> {
    fn equivalent(&self, (kind, name): &(ResourceType, Arc<str>)) -> bool {
        self.0 == *kind && *self.1 == **name
    }
}

impl Comparable<(ResourceType, Arc<str>)> for Sought<'_> {
    fn compare(&self, (kind, name): &(ResourceType, Arc<str>)) -> Ordering {
        self.0.cmp(kind).then_with(|| self.1.cmp(name))
    }
}

impl View {
    /// Returns the view after `earlier` with `resources`: `earlier` itself if its content is the same.
    pub(crate) fn after(earlier: &Arc<Self>, resources: Named) -> Arc<Self> {
        let changes = changes(&earlier.resources, &resources);
        if changes.is_empty() {
            return Arc::clone(earlier);
        }
        let step = Step { earlier: Arc::downgrade(earlier), changes: Arc::new(changes) };
        Arc::new(Self { resources, step: Some(step) })
    }

    /// Returns what differs from `earlier`, if this view was made directly after it.
    pub(crate) fn changes_after(&self, earlier: &Arc<Self>) -> Option<&Arc<Changes>> {
        let step = self.step.as_ref()?;
        std::ptr::eq(step.earlier.as_ptr(), Arc::as_ptr(earlier)).then_some(&step.changes)
    }

    /// Returns the resource of this name, if the proxy may know it.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&Sought(kind, name))
    }

    /// Returns the view's own copy of a name, if it has the name.
    pub(crate) fn name(&self, kind: ResourceType, name: &str) -> Option<&Arc<str>> {
        self.resources.get_key_value(&Sought(kind, name)).map(|((_, name), _)| name)
    }
}

/// Returns the changes from `old` to `new`, at the cost of what they do not share.
pub(crate) fn changes(old: &Named, new: &Named) -> Changes {
    let change = |item: DiffItem<'_, '_, (ResourceType, Arc<str>), Arc<Resource>>| match item {
        DiffItem::Update { old: (_, old), new: (_, new) } if same(old, new) => None,
        DiffItem::Update { new: (key, _), .. } | DiffItem::Add(key, _) | DiffItem::Remove(key, _) => {
            Some(key.clone())
        }
    };
    old.diff(new).filter_map(change).collect()
}

fn same(old: &Arc<Resource>, new: &Arc<Resource>) -> bool {
    Arc::ptr_eq(old, new) || old.version == new.version
}

/// Replaces the resources of known names by those in `resources`; adds no name.
pub(crate) fn patch<'a>(named: &mut Named, resources: impl IntoIterator<Item = &'a Arc<Resource>>) {
    for resource in resources {
        let sought = Sought(resource.kind, &resource.name);
        if named.get(&sought).is_some_and(|known| !Arc::ptr_eq(known, resource)) {
            extend(named, [resource]);
        }
    }
}

/// Makes `named` equal to `target`, at the cost of what differs, so that copies continue to share the rest.
pub(crate) fn become_like(named: &mut Named, target: &Named) {
    let earlier = named.clone();
    for difference in earlier.diff(target) {
        match difference {
            DiffItem::Add(key, new) | DiffItem::Update { new: (key, new), .. } => {
                named.insert(key.clone(), Arc::clone(new));
            }
            DiffItem::Remove(key, _) => {
                named.remove(key);
            }
        }
    }
}

fn extend<'a>(named: &mut Named, resources: impl IntoIterator<Item = &'a Arc<Resource>>) {
    for resource in resources {
        named.insert((resource.kind, Arc::clone(&resource.name)), Arc::clone(resource));
    }
}

/// Builds the part of a view that every proxy sees.
pub(crate) fn shared_view(mesh: &Mesh, resources: &Resources, reach: &Reach) -> Named {
    let mut named = Named::new();
    extend(&mut named, resources.shared());
    for (service, number) in reach.every_identity() {
        call(&mut named, mesh, resources, service, *number);
    }
    named
}

/// Builds the view of a class: the part that every proxy sees, its own inbound side, and what its identity may call.
pub(crate) fn view(
    mesh: &Mesh,
    resources: &Resources,
    reach: &Reach,
    shared_view: &Named,
    id: &ClassId,
) -> Option<Named> {
    let class = mesh.classes.get(id)?;
    let mut named = shared_view.clone();
    extend(&mut named, resources.of_kind(class.proxy_kind()));
    extend(&mut named, resources.class(id));
    for (service, number) in reach.of(&class.identity) {
        call(&mut named, mesh, resources, service, *number);
    }
    Some(named)
}

/// Adds the resources that a caller of a port needs.
fn call(named: &mut Named, mesh: &Mesh, resources: &Resources, service: &ServiceId, number: u16) {
    let Some(called) = mesh.services.get(service).and_then(|service| service.ports.get(&number)) else {
        return;
    };
    let made = |id: &ServiceId, number: u16| -> Option<(&ServicePart, &PortPart)> {
        let part = resources.service(id)?;
        Some((part, part.ports.get(&number)?))
    };
    extend(named, made(service, number).into_iter().flat_map(|(_, port)| port.entries()));
    // Includes backends of weight 0, so that a change of weights adds or removes no cluster.
    let backends = reach::backends(called);
    for (service, port) in backends.filter_map(|backend| made(&backend.service, backend.port(number))) {
        extend(named, &port.backend);
        extend(named, &service.servers);
    }
}
