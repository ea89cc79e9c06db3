//! What one proxy sees of the pool: for each type, the names it may know and the resource that each stands for.
//!
//! Made from a snapshot for a class of proxies; consumed by `delta::Session`. Contains nothing that its proxy may not
//! know, and no secret.

use std::{collections::BTreeMap, sync::Arc};

use crate::resources::{Kind, Resource};

/// The resources of one proxy by type and name. Shared by all proxies of a class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The resources. Equality of two entries is decided by pointer first: snapshots reuse what did not change.
    pub resources: BTreeMap<(Kind, Arc<str>), Arc<Resource>>,
}
