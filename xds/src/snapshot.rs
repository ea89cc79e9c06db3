//! One mesh with everything that is made of it: the pool, and the views of those who ask.
//!
//! Pure. `operator::publish` makes the next one from the one before, at the cost of what differs, and hands it to `server`. Read
//! only, shared by all streams, free of secrets.

mod difference;
mod view_impact;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, OnceLock},
};

pub use difference::Difference;
use imbl::OrdMap;
use view_impact::{ViewChange, ViewImpact};

use crate::{
    mesh::{
        Mesh,
        change::Changes,
        id::{ClassId, ProxyId},
    },
    provenance::Provenance,
    reach::Reach,
    resources::{Resource, Resources},
    view::{self, Named, View},
};

/// A mesh, its resources, and the views that were asked for.
#[derive(Default)]
pub struct Snapshot {
    mesh: Arc<Mesh>,
    resources: Resources,
    reach: Reach,
    /// What everybody sees.
    shared_view: Named,
    views: OrdMap<ClassId, Arc<LazyView>>,
    concerned: Concerned,
    provenance: Provenance,
}

/// Whose view may differ from the one in the snapshot before.
#[derive(Default)]
struct Concerned {
    classes: BTreeSet<ClassId>,
    /// How many instances these have.
    instances: usize,
    /// Those who are new, or of another class than before.
    moved: BTreeSet<ProxyId>,
}

/// Whose streams a snapshot concerns.
pub enum Recipients<'a> {
    /// All.
    All,
    /// Those of these proxies.
    These(Box<dyn Iterator<Item = &'a ProxyId> + 'a>),
    /// Those of the proxies that are such.
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

/// A view that is computed when somebody asks for it. Snapshots between which it does not change share it.
#[derive(Default)]
struct LazyView {
    view: OnceLock<Arc<View>>,
    earlier: Option<Arc<View>>,
    /// What must be put into the earlier view to make this one; `None` if there is more to it.
    patch: Option<Arc<Vec<Arc<Resource>>>>,
}

impl Snapshot {
    /// The snapshot of `mesh` after `previous`, from which it takes over whatever did not change.
    pub fn next(mesh: Arc<Mesh>, previous: Option<&Self>) -> Self {
        let nothing = Self::default();
        let previous = previous.unwrap_or(&nothing);
        let compared = Arc::clone(&mesh);
        let changes = Changes::between(&previous.mesh, &compared);
        let resources = previous.resources.next(&mesh, &changes);
        let (reach, moved) = previous.reach.next(&mesh, resources.index(), &changes);
        let news = ViewImpact::new(&changes, &moved, &reach, (&previous.resources, &resources));
        let shared_view = match news.everybody {
            ViewChange::Same => previous.shared_view.clone(),
            ViewChange::Patched => {
                let mut patched = previous.shared_view.clone();
                view::patch(&mut patched, &news.patch);
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
        next.renew_views(&changes, &news, previous);
        next
    }

    fn renew_views(&mut self, changes: &Changes<'_>, news: &ViewImpact, previous: &Self) {
        for gone in changes.classes.iter().filter(|change| change.new.is_none()) {
            self.views.remove(gone.key);
        }
        let index = self.resources.index();
        let due: Vec<(ClassId, ViewChange)> = match news.everybody {
            ViewChange::Same => news.classes.iter().map(|(class, fate)| (class.clone(), *fate)).collect(),
            all => {
                let fate = |class| news.classes.get(class).copied().unwrap_or(all).max(all);
                self.mesh.classes.keys().map(|class| (class.clone(), fate(class))).collect()
            }
        };
        for (class, fate) in due.into_iter().filter(|(class, _)| self.mesh.classes.contains_key(class)) {
            let before = previous.views.get(&class);
            let direct = before.and_then(|before| before.view.get());
            let patch = direct.filter(|_| fate == ViewChange::Patched).map(|_| Arc::clone(&news.patch));
            let earlier = direct.or_else(|| before?.earlier.as_ref()).map(Arc::clone);
            self.concerned.instances += index.count(&class);
            self.concerned.classes.insert(class.clone());
            self.views.insert(class, Arc::new(LazyView { view: OnceLock::new(), earlier, patch }));
        }
        let moved = changes.workloads.iter().filter(|change| change.new.is_some());
        self.concerned.moved.extend(moved.map(|change| change.key.clone()));
    }

    /// The mesh.
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// The pool.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The proxies whose view may differ from the one in the snapshot before.
    pub fn concerned(&self) -> impl Iterator<Item = &ProxyId> {
        let Concerned { classes, moved, instances: _ } = &self.concerned;
        classes.iter().flat_map(|class| self.resources.index().instances(class)).chain(moved)
    }

    /// Whether a proxy is one of these.
    fn concerns(&self, proxy: &ProxyId) -> bool {
        let Concerned { classes, moved, instances: _ } = &self.concerned;
        let is_of = |class: &ClassId| classes.contains(class);
        moved.contains(proxy) || self.mesh.workloads.get(proxy).is_some_and(|workload| is_of(&workload.class))
    }

    /// Returns the recipients of this snapshot among so many subscribers. Iterates over whichever are fewer, subscribers or
    /// affected proxies, most of which may be connected to another replica.
    pub fn recipients(&self, subscribers: usize) -> Recipients<'_> {
        if self.concerned.instances + self.concerned.moved.len() > subscribers {
            Recipients::Where(Box::new(|proxy| self.concerns(proxy)))
        } else {
            Recipients::These(Box::new(self.concerned()))
        }
    }

    /// Which resources carry what users' objects say.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// What a proxy sees; `None` if there is no such proxy in the mesh.
    ///
    /// Computed when first asked for, once for all proxies of a class. A view that did not change is the same `Arc`
    /// as in the snapshot before, if that was asked for it.
    pub fn view(&self, proxy: &ProxyId) -> Option<Arc<View>> {
        self.view_of(&self.mesh.workloads.get(proxy)?.class)
    }

    /// What every proxy of a class sees; `None` if there is no such class.
    pub fn view_of(&self, class: &ClassId) -> Option<Arc<View>> {
        let awaited = self.views.get(class)?;
        if let Some(view) = awaited.view.get() {
            return Some(Arc::clone(view));
        }
        let fresh = match (&awaited.earlier, &awaited.patch) {
            (Some(earlier), Some(patch)) => {
                let mut patched = earlier.resources.clone();
                view::patch(&mut patched, patch);
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
