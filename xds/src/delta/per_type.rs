//! One value for each kind of resource, found without hashing or indexing.
//!
//! Used by `Session` for its topics and counters, and by `metrics`.

use crate::resources::ResourceType;

/// One value for each kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct PerType<T> {
    clusters: T,
    endpoints: T,
    secrets: T,
    listeners: T,
    extensions: T,
    routes: T,
}

impl<T> PerType<T> {
    pub(crate) fn get(&self, kind: ResourceType) -> &T {
        match kind {
            ResourceType::Cluster => &self.clusters,
            ResourceType::Endpoints => &self.endpoints,
            ResourceType::Secret => &self.secrets,
            ResourceType::Listener => &self.listeners,
            ResourceType::Extension => &self.extensions,
            ResourceType::Route => &self.routes,
        }
    }

    pub(crate) fn get_mut(&mut self, kind: ResourceType) -> &mut T {
        match kind {
            ResourceType::Cluster => &mut self.clusters,
            ResourceType::Endpoints => &mut self.endpoints,
            ResourceType::Secret => &mut self.secrets,
            ResourceType::Listener => &mut self.listeners,
            ResourceType::Extension => &mut self.extensions,
            ResourceType::Route => &mut self.routes,
        }
    }
}
