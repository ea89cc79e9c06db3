//! Computes the impact of a change on views: some stay the same, some have other content under the same names, and some
//! must be built anew.
//!
//! Made by `snapshot` for each step. In doubt a view is built anew, which is always right.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    mesh::{
        change::Changes,
        id::{ClassId, ServiceId},
        proxy::ProxyKind,
    },
    reach::{Moved, Reach, is_reached_alike},
    resources::{Resource, Resources},
};

/// Change of a view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ViewChange {
    /// No change.
    #[default]
    Same,
    /// The same names, some with other content.
    Patched,
    /// Any change.
    Fresh,
}

/// Impact of one step.
#[derive(Debug, Default)]
pub(super) struct ViewImpact {
    /// Minimum change of every view.
    pub every_view: ViewChange,
    /// Change of the views of some classes.
    pub classes: BTreeMap<ClassId, ViewChange>,
    /// Resources with other content.
    pub patch: Patch,
}

/// Resources with other content: those that are the same for every proxy, and those of each kind of proxy.
#[derive(Debug, Clone, Default)]
pub(super) struct Patch {
    pub common: Arc<Vec<Arc<Resource>>>,
    pub by_kind: BTreeMap<ProxyKind, Vec<Arc<Resource>>>,
}

impl Patch {
    /// Returns those that a kind of proxy may have.
    pub fn of(&self, kind: ProxyKind) -> impl Iterator<Item = &Arc<Resource>> {
        self.common.iter().chain(self.by_kind.get(&kind).into_iter().flatten())
    }
}

impl ViewImpact {
    pub fn new(
        changes: &Changes<'_>,
        moved: &Moved,
        reach: &Reach,
        (old, new): (&Resources, &Resources),
    ) -> Self {
        let mut impact = Self::default();
        let mut patch = Vec::new();
        if changes.mesh_wide || moved.every_identity {
            impact.every_view = ViewChange::Fresh;
        }
        impact.raise_every_view(compare(old.shared(), new.shared(), &mut patch));
        // A kind of proxy that is new or gone concerns no view that was there before.
        for kind in old.kinds().filter(|kind| new.of_kind(*kind).next().is_some()) {
            let resources = impact.patch.by_kind.entry(kind).or_default();
            let change = compare(old.of_kind(kind), new.of_kind(kind), resources);
            impact.raise_every_view(change);
        }
        for identity in moved.identities.iter().chain(changes.grants.iter().map(|change| change.key)) {
            for class in new.index().classes(identity) {
                impact.raise(class, ViewChange::Fresh);
            }
        }
        for change in &changes.classes {
            // The drain marks of its grants are in the listeners of all classes of its identity.
            let identities = change.old.into_iter().chain(change.new).map(|class| &class.identity);
            for class in identities.flat_map(|identity| new.index().classes(identity)) {
                impact.raise(class, ViewChange::Fresh);
            }
        }
        for change in &changes.services {
            let part = |pool: &'_ Resources| pool.service(change.key).cloned();
            let (before, after) = (part(old), part(new));
            let before = before.iter().flat_map(|part| part.iter());
            let same_names = compare(before, after.iter().flat_map(|part| part.iter()), &mut patch);
            let fate = if is_reached_alike(change) { same_names } else { ViewChange::Fresh };
            impact.raise_viewers(change.key, fate, reach, new);
        }
        impact.patch.common = Arc::new(patch);
        impact
    }

    fn raise_viewers(&mut self, service: &ServiceId, fate: ViewChange, reach: &Reach, pool: &Resources) {
        if reach.is_seen_by_every_identity(service) {
            self.raise_every_view(fate);
        }
        for class in reach.viewers(service).flat_map(|identity| pool.index().classes(identity)) {
            self.raise(class, fate);
        }
    }

    fn raise_every_view(&mut self, fate: ViewChange) {
        self.every_view = self.every_view.max(fate);
    }

    fn raise(&mut self, class: &ClassId, fate: ViewChange) {
        if fate == ViewChange::Same {
            return;
        }
        match self.classes.get_mut(class) {
            Some(known) => *known = (*known).max(fate),
            None => drop(self.classes.insert(class.clone(), fate)),
        }
    }
}

/// Returns the change of a view that had `old` and now has `new`, both in a fixed order. Adds resources with other
/// content to `patch`.
fn compare<'a>(
    old: impl Iterator<Item = &'a Arc<Resource>>,
    new: impl Iterator<Item = &'a Arc<Resource>>,
    patch: &mut Vec<Arc<Resource>>,
) -> ViewChange {
    let (mut old, mut fate) = (old, ViewChange::Same);
    for new in new {
        match old.next() {
            Some(old) if Arc::ptr_eq(old, new) => {}
            Some(old) if old.kind == new.kind && old.name == new.name => {
                patch.push(Arc::clone(new));
                fate = fate.max(ViewChange::Patched);
            }
            _ => fate = ViewChange::Fresh,
        }
    }
    if old.next().is_some() { ViewChange::Fresh } else { fate }
}
