//! Encodes the resources of one part of the pool, and reuses those that the part had before and that did not change.
//!
//! Used by every builder of the pool. Counts what is encoded: tests bound the cost of a change by these counts.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use prost::{Message, Name};

use super::{Resource, ResourceType};

/// Cost of building a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Built {
    /// Number of Services of which something was built anew.
    pub services: u64,
    /// Number of classes whose inbound side was built anew.
    pub classes: u64,
    /// Number of resources that were encoded.
    pub encoded: u64,
}

/// Resources of other parts that were built in this step, by kind and name.
pub(super) type Beside = BTreeMap<(ResourceType, Arc<str>), Arc<Resource>>;

/// The resources that a part had before, and those that other parts have.
pub(super) struct Previous<'a> {
    earlier: BTreeMap<(ResourceType, &'a str), &'a Arc<Resource>>,
    beside: Option<&'a Beside>,
    encoded: Cell<u64>,
}

impl<'a> Previous<'a> {
    pub fn new(resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> Self {
        let earlier = resources.into_iter().map(|resource| ((resource.kind, &*resource.name), resource));
        Self { earlier: earlier.collect(), beside: None, encoded: Cell::new(0) }
    }

    /// Adds resources of other parts: a resource that is equal to one of `beside` becomes that one.
    pub fn beside(self, beside: &'a Beside) -> Self {
        Self { beside: Some(beside), ..self }
    }

    /// Encodes a message, and returns the known resource if it is equal.
    pub fn make<M: Message + Name>(&self, kind: ResourceType, name: &str, message: &M) -> Arc<Resource> {
        self.or_new(self.encode(kind, name, message))
    }

    /// Encodes a message for a resource whose version is not a digest of its bytes alone.
    pub fn encode<M: Message + Name>(&self, kind: ResourceType, name: &str, message: &M) -> Resource {
        self.encoded.set(self.encoded.get() + 1);
        Resource::new(kind, name, message)
    }

    /// Returns the known resource if it is equal, so that a comparison of snapshots need compare pointers only.
    pub fn or_new(&self, resource: Resource) -> Arc<Resource> {
        let earlier = self.earlier.get(&(resource.kind, &*resource.name)).copied();
        let key = (resource.kind, Arc::clone(&resource.name));
        let beside = self.beside.and_then(|beside| beside.get(&key));
        let equal = earlier.into_iter().chain(beside).find(|known| ***known == resource);
        equal.map_or_else(|| Arc::new(resource), Arc::clone)
    }

    /// Returns the number of messages that were encoded.
    pub fn encoded(&self) -> u64 {
        self.encoded.get()
    }
}
