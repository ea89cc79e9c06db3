//! What one proxy sees of the pool: for each type, the names it may know and the resource that each stands for.
//!
//! Pure. Made from a snapshot for a class of proxies; consumed by `delta::Session`. Contains nothing that its proxy may not
//! know, and no secret.

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
    /// The resources. What two views share is passed over when they are compared: snapshots reuse what did not change.
    pub resources: Named,
    step: Option<Step>,
}

/// The names whose resource is new, gone or of another version.
pub type Changes = Vec<(ResourceType, Arc<str>)>;

/// How a view came to be: the view that its class had before, and what differs.
#[derive(Debug, Clone)]
struct Step {
    /// Keeps the address from being used again, and nothing else.
    earlier: Weak<View>,
    changes: Arc<Changes>,
}

/// What a view shows counts, not how it came to be.
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

/// A key that is looked for without making one.
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
    /// The view after `earlier` that shows `resources`: the same one if that is no other content.
    pub(crate) fn after(earlier: &Arc<Self>, resources: Named) -> Arc<Self> {
        let changes = changes(&earlier.resources, &resources);
        if changes.is_empty() {
            return Arc::clone(earlier);
        }
        let step = Step { earlier: Arc::downgrade(earlier), changes: Arc::new(changes) };
        Arc::new(Self { resources, step: Some(step) })
    }

    /// What differs from `earlier`, if that is the view that this one was made after.
    pub(crate) fn changes_after(&self, earlier: &Arc<Self>) -> Option<&Arc<Changes>> {
        let step = self.step.as_ref()?;
        std::ptr::eq(step.earlier.as_ptr(), Arc::as_ptr(earlier)).then_some(&step.changes)
    }

    /// The resource of this name, if the proxy may know it.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&Sought(kind, name))
    }

    /// The view's own copy of a name, if it has the name.
    pub(crate) fn name(&self, kind: ResourceType, name: &str) -> Option<&Arc<str>> {
        self.resources.get_key_value(&Sought(kind, name)).map(|((_, name), _)| name)
    }
}

/// The changes from `old` to `new`, at the cost of what they do not share.
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

/// Puts in what `resources` are now, where their names are known.
pub(crate) fn patch(named: &mut Named, resources: &[Arc<Resource>]) {
    for resource in resources {
        let sought = Sought(resource.kind, &resource.name);
        if named.get(&sought).is_some_and(|known| !Arc::ptr_eq(known, resource)) {
            extend(named, [resource]);
        }
    }
}

/// Makes of `named` what `target` is, at the cost of what differs, so that copies go on to share the rest.
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

/// What everybody sees.
pub(crate) fn shared_view(mesh: &Mesh, resources: &Resources, reach: &Reach) -> Named {
    let mut named = Named::new();
    extend(&mut named, resources.shared());
    for (service, number) in reach.everybody() {
        call(&mut named, mesh, resources, service, *number);
    }
    named
}

/// The view of a class: what everybody sees, its own inbound side, and what its identity may call.
pub(crate) fn view(
    mesh: &Mesh,
    resources: &Resources,
    reach: &Reach,
    shared_view: &Named,
    id: &ClassId,
) -> Option<Named> {
    let class = mesh.classes.get(id)?;
    let mut named = shared_view.clone();
    extend(&mut named, resources.class(id));
    for (service, number) in reach.of(&class.identity) {
        call(&mut named, mesh, resources, service, *number);
    }
    Some(named)
}

/// Puts in what a caller of a port needs.
fn call(named: &mut Named, mesh: &Mesh, resources: &Resources, service: &ServiceId, number: u16) {
    let Some(called) = mesh.services.get(service).and_then(|service| service.ports.get(&number)) else {
        return;
    };
    let made = |id: &ServiceId, number: u16| -> Option<(&ServicePart, &PortPart)> {
        let part = resources.service(id)?;
        Some((part, part.ports.get(&number)?))
    };
    extend(named, made(service, number).into_iter().flat_map(|(_, port)| port.entries()));
    // Backends of weight 0 as well, so that a change of weights moves no cluster.
    let backends = reach::backends(called);
    for (service, port) in backends.filter_map(|backend| made(&backend.service, backend.port(number))) {
        extend(named, &port.backend);
        extend(named, &service.servers);
    }
}
