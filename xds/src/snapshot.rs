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
    resources::{Resources, resources},
    view::{Reach, View, view},
};

/// A mesh, its resources, and the views that were asked for.
pub struct Snapshot {
    mesh: Arc<Mesh>,
    resources: Resources,
    reach: OnceLock<Reach>,
    views: BTreeMap<ClassId, OnceLock<Arc<View>>>,
    /// The views of the snapshot before, for a view that did not change to stay the same one.
    earlier: BTreeMap<ClassId, Arc<View>>,
}

impl Snapshot {
    /// The snapshot of `mesh` after `previous`, from which it takes over whatever did not change.
    pub fn next(mesh: Arc<Mesh>, previous: Option<&Self>) -> Self {
        let resources = resources(&mesh, previous.map(|previous| &previous.resources));
        let views = mesh.classes.keys().map(|class| (class.clone(), OnceLock::new())).collect();
        let earlier = previous.into_iter().flat_map(|previous| &previous.views);
        let earlier = earlier.filter_map(|(class, view)| Some((class.clone(), Arc::clone(view.get()?))));
        Self { resources, reach: OnceLock::new(), views, earlier: earlier.collect(), mesh }
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
        let reach = self.reach.get_or_init(|| Reach::new(&self.mesh));
        let fresh = view(&self.mesh, &self.resources, reach, class)?;
        let view = match self.earlier.get(class) {
            Some(earlier) if earlier.is_same(&fresh) => Arc::clone(earlier),
            _ => Arc::new(fresh),
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
