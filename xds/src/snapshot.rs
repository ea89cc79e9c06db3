//! One mesh with everything that is made of it: the pool, and the views of those who ask.
//!
//! `operator::publish` makes the next one from the one before and hands it to `server`. Read only, shared by all
//! streams, free of secrets.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use crate::{
    mesh::{
        Mesh,
        id::{ClassId, ProxyId},
    },
    resources::{Resource, Resources, resources},
    view::{Reach, View, reaches_alike, view},
};

/// A mesh, its resources, and the views that were asked for.
pub struct Snapshot {
    mesh: Arc<Mesh>,
    resources: Resources,
    reach: OnceLock<Arc<Reach>>,
    views: BTreeMap<ClassId, OnceLock<Arc<View>>>,
    /// The views of the snapshot before, for a view that did not change to stay the same one.
    earlier: BTreeMap<ClassId, Arc<View>>,
    /// What is another resource than before, if that is all that views have to know: no name came or went, and
    /// everybody may call whom they could before.
    replaced: Option<Vec<Arc<Resource>>>,
}

impl Snapshot {
    /// The snapshot of `mesh` after `previous`, from which it takes over whatever did not change.
    pub fn next(mesh: Arc<Mesh>, previous: Option<&Self>) -> Self {
        let resources = resources(&mesh, previous.map(|previous| &previous.resources));
        let views = mesh.classes.keys().map(|class| (class.clone(), OnceLock::new())).collect();
        let earlier = previous.into_iter().flat_map(|previous| &previous.views);
        let earlier = earlier.filter_map(|(class, view)| Some((class.clone(), Arc::clone(view.get()?))));
        let (earlier, reach) = (earlier.collect(), OnceLock::new());
        let next = Self { resources, reach, views, earlier, replaced: None, mesh };
        let Some(previous) = previous else { return next };
        let replaced = next.replaced(previous);
        let known = previous.reach.get().filter(|_| replaced.is_some());
        let reach = known.map_or_else(OnceLock::new, |reach| OnceLock::from(Arc::clone(reach)));
        Self { reach, replaced, ..next }
    }

    /// What views of the snapshot before need to become views of this one, if everybody may call whom they could before.
    fn replaced(&self, previous: &Self) -> Option<Vec<Arc<Resource>>> {
        let replaced = self.resources.replaced(&previous.resources)?;
        let is_alike = replaced.services.iter().all(|id| {
            let (before, now) = (previous.mesh.services.get(id), self.mesh.services.get(id));
            before.zip(now).is_some_and(|(before, now)| reaches_alike(before, now))
        });
        is_alike.then_some(replaced.resources)
    }

    /// The mesh.
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// The pool.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// What a proxy sees; `None` if there is no such proxy in the mesh.
    ///
    /// Computed when first asked for, once for all proxies of a class. A view that did not change is the same `Arc`
    /// as in the snapshot before, if that was asked for it.
    pub fn view(&self, proxy: &ProxyId) -> Option<Arc<View>> {
        let class = &self.mesh.workloads.get(proxy)?.class;
        let cell = self.views.get(class)?;
        if let Some(view) = cell.get() {
            return Some(Arc::clone(view));
        }
        let view = match (self.earlier.get(class), &self.replaced) {
            (Some(earlier), Some(replaced)) => View::with(earlier, replaced),
            (earlier, _) => {
                let reach = self.reach.get_or_init(|| Arc::new(Reach::new(&self.mesh)));
                let fresh = view(&self.mesh, &self.resources, reach, class)?;
                let same = earlier.filter(|earlier| earlier.is_same(&fresh)).map(Arc::clone);
                same.unwrap_or_else(|| Arc::new(fresh))
            }
        };
        Some(Arc::clone(cell.get_or_init(|| view)))
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
