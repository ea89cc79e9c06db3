//! One mesh with everything that is built from it: the pool, and the views that are requested.
//!
//! Pure. `operator::publish` makes the next one from the previous one, at the cost of what differs, and hands it to
//! `server`. Read only, shared by all streams, free of secrets.

mod difference;
mod view_impact;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, OnceLock},
};

pub use difference::Difference;
use imbl::OrdMap;
use view_impact::{Patch, ViewChange, ViewImpact};

use crate::{
    mesh::{
        Mesh,
        change::Changes,
        id::{ClassId, ProxyId},
    },
    provenance::Provenance,
    reach::Reach,
    resources::Resources,
    view::{self, Named, View},
};

/// A mesh, its resources, and the views that were requested.
#[derive(Default)]
pub struct Snapshot {
    mesh: Arc<Mesh>,
    resources: Resources,
    reach: Reach,
    /// Part of the view that every proxy sees.
    shared_view: Named,
    views: OrdMap<ClassId, Arc<LazyView>>,
    concerned: Concerned,
    provenance: Provenance,
}

/// Proxies whose view may differ from the one in the previous snapshot.
#[derive(Default)]
struct Concerned {
    classes: BTreeSet<ClassId>,
    /// Number of instances of these classes.
    instances: usize,
    /// Proxies that are new, or of another class than before.
    moved: BTreeSet<ProxyId>,
}

/// Recipients of a snapshot.
pub enum Recipients<'a> {
    /// All proxies.
    All,
    /// These proxies.
    These(Box<dyn Iterator<Item = &'a ProxyId> + 'a>),
    /// The proxies for which the function returns true.
    Where(Box<dyn Fn(&ProxyId) -> bool + 'a>),
}

impl fmt::Debug for Recipients<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "All",
            Self::These(_) => "These",
            Self::Where(_) => "Where",
        })
    }
}

/// A view that is computed when it is first requested. Snapshots between which it does not change share it.
#[derive(Default)]
struct LazyView {
    view: OnceLock<Arc<View>>,
    earlier: Option<Arc<View>>,
    /// Resources to replace in the earlier view to make this one; `None` if the view must be built anew.
    patch: Option<Patch>,
}

impl Snapshot {
    /// Returns the snapshot of `mesh` after `previous`, from which it takes over whatever did not change.
    pub fn next(mesh: Arc<Mesh>, previous: Option<&Self>) -> Self {
        let nothing = Self::default();
        let previous = previous.unwrap_or(&nothing);
        let compared = Arc::clone(&mesh);
        let changes = Changes::between(&previous.mesh, &compared);
        let resources = previous.resources.next(&mesh, &changes);
        let (reach, moved) = previous.reach.next(&mesh, resources.index(), &changes);
        let impact = ViewImpact::new(&changes, &moved, &reach, (&previous.resources, &resources));
        let shared_view = match impact.every_view {
            ViewChange::Same => previous.shared_view.clone(),
            ViewChange::Patched => {
                let mut patched = previous.shared_view.clone();
                view::patch(&mut patched, impact.patch.common.iter());
                patched
            }
            ViewChange::Fresh => {
                let mut grown = previous.shared_view.clone();
                view::become_like(&mut grown, &view::shared_view(&mesh, &resources, &reach));
                grown
            }
        };
        let views = previous.views.clone();
        let provenance = {
            let (old, new) = ((&*previous.mesh, &previous.resources), (&*mesh, &resources));
            previous.provenance.next(&changes, old, new)
        };
        let concerned = Concerned::default();
        let mut next = Self { mesh, resources, reach, shared_view, views, concerned, provenance };
        next.renew_views(&changes, &impact, previous);
        next
    }

    fn renew_views(&mut self, changes: &Changes<'_>, impact: &ViewImpact, previous: &Self) {
        for gone in changes.classes.iter().filter(|change| change.new.is_none()) {
            self.views.remove(gone.key);
        }
        let index = self.resources.index();
        let due: Vec<(ClassId, ViewChange)> = match impact.every_view {
            ViewChange::Same => impact.classes.iter().map(|(class, fate)| (class.clone(), *fate)).collect(),
            all => {
                let fate = |class| impact.classes.get(class).copied().unwrap_or(all).max(all);
                self.mesh.classes.keys().map(|class| (class.clone(), fate(class))).collect()
            }
        };
        for (class, fate) in due.into_iter().filter(|(class, _)| self.mesh.classes.contains_key(class)) {
            let before = previous.views.get(&class);
            let direct = before.and_then(|before| before.view.get());
            let patch = direct.filter(|_| fate == ViewChange::Patched).map(|_| impact.patch.clone());
            let earlier = direct.or_else(|| before?.earlier.as_ref()).map(Arc::clone);
            self.concerned.instances += index.count(&class);
            self.concerned.classes.insert(class.clone());
            self.views.insert(class, Arc::new(LazyView { view: OnceLock::new(), earlier, patch }));
        }
        let moved = changes.workloads.iter().filter(|change| change.new.is_some());
        self.concerned.moved.extend(moved.map(|change| change.key.clone()));
    }

    /// Returns the mesh.
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// Returns the pool.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Returns the proxies whose view may differ from the one in the previous snapshot, each once.
    pub fn concerned(&self) -> impl Iterator<Item = &ProxyId> {
        let Concerned { classes, moved, instances: _ } = &self.concerned;
        let is_in = |proxy| self.mesh.workloads.get(proxy).is_some_and(|it| classes.contains(&it.class));
        let others = moved.iter().filter(move |proxy| !is_in(*proxy));
        classes.iter().flat_map(|class| self.resources.index().instances(class)).chain(others)
    }

    /// Returns true if `concerned` contains the proxy.
    fn concerns(&self, proxy: &ProxyId) -> bool {
        let Concerned { classes, moved, instances: _ } = &self.concerned;
        let is_of = |class: &ClassId| classes.contains(class);
        moved.contains(proxy) || self.mesh.workloads.get(proxy).is_some_and(|workload| is_of(&workload.class))
    }

    /// Returns the recipients of this snapshot if there are `subscribers` subscribers. Iterates over whichever are
    /// fewer, subscribers or affected proxies, most of which may be connected to another replica.
    pub fn recipients(&self, subscribers: usize) -> Recipients<'_> {
        if self.concerned.instances + self.concerned.moved.len() > subscribers {
            Recipients::Where(Box::new(|proxy| self.concerns(proxy)))
        } else {
            Recipients::These(Box::new(self.concerned()))
        }
    }

    /// Returns the resources that carry the content of users' objects.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Returns the view of a proxy; `None` if there is no such proxy in the mesh.
    ///
    /// Computed when first requested, once for all proxies of a class. A view that did not change is the same `Arc` as
    /// in the previous snapshot, if it was requested there.
    pub fn view(&self, proxy: &ProxyId) -> Option<Arc<View>> {
        self.view_of(&self.mesh.workloads.get(proxy)?.class)
    }

    /// Returns the view of every proxy of a class; `None` if there is no such class.
    pub fn view_of(&self, class: &ClassId) -> Option<Arc<View>> {
        let awaited = self.views.get(class)?;
        if let Some(view) = awaited.view.get() {
            return Some(Arc::clone(view));
        }
        let fresh = match (&awaited.earlier, &awaited.patch) {
            (Some(earlier), Some(patch)) => {
                let mut patched = earlier.resources.clone();
                let kind = self.mesh.classes.get(class)?.proxy_kind();
                view::patch(&mut patched, patch.of(kind));
                patched
            }
            _ => view::view(&self.mesh, &self.resources, &self.reach, &self.shared_view, class)?,
        };
        let view = match &awaited.earlier {
            Some(earlier) => View::after(earlier, fresh),
            None => Arc::new(View::from(fresh)),
        };
        Some(Arc::clone(awaited.view.get_or_init(|| view)))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("services", &self.mesh.services.len())
            .field("workloads", &self.mesh.workloads.len())
            .field("classes", &self.mesh.classes.len())
            .field("resources", &self.resources.iter().count())
            .finish_non_exhaustive()
    }
}
