//! One value for each kind of resource, found without hashing or indexing.
//!
//! Used by `Session` for its topics and counters.

use crate::resources::Kind;

/// One value for each kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct PerKind<T> {
    clusters: T,
    endpoints: T,
    secrets: T,
    listeners: T,
    extensions: T,
    routes: T,
}

impl<T> PerKind<T> {
    pub(crate) fn get(&self, kind: Kind) -> &T {
        match kind {
            Kind::Cluster => &self.clusters,
            Kind::Endpoints => &self.endpoints,
            Kind::Secret => &self.secrets,
            Kind::Listener => &self.listeners,
            Kind::Extension => &self.extensions,
            Kind::Route => &self.routes,
        }
    }

    pub(crate) fn get_mut(&mut self, kind: Kind) -> &mut T {
        match kind {
            Kind::Cluster => &mut self.clusters,
            Kind::Endpoints => &mut self.endpoints,
            Kind::Secret => &mut self.secrets,
            Kind::Listener => &mut self.listeners,
            Kind::Extension => &mut self.extensions,
            Kind::Route => &mut self.routes,
        }
    }
}
