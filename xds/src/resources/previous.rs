//! Encodes the resources of one part of the pool, and goes on with those that the part had before and that did not change.
//!
//! Used by every builder of the pool. Counts what is encoded: what a change costs is held by tests through these counts.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use prost::{Message, Name};

use super::{Resource, ResourceType};

/// What building a pool took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Built {
    /// Services of which something was built anew.
    pub services: u64,
    /// Classes whose inbound side was built anew.
    pub classes: u64,
    /// Resources that were encoded.
    pub encoded: u64,
}

/// Resources that other parts were made of in this step, by kind and name.
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

    /// The same, and what is equal to one of `beside` is that one.
    pub fn beside(self, beside: &'a Beside) -> Self {
        Self { beside: Some(beside), ..self }
    }

    /// Encodes a message.
    pub fn make<M: Message + Name>(&self, kind: ResourceType, name: &str, message: &M) -> Arc<Resource> {
        self.or_new(self.encode(kind, name, message))
    }

    /// Encodes a message for a resource that is not its bytes alone.
    pub fn encode<M: Message + Name>(&self, kind: ResourceType, name: &str, message: &M) -> Resource {
        self.encoded.set(self.encoded.get() + 1);
        Resource::new(kind, name, message)
    }

    /// The earlier one if it is equal, so that whoever compares snapshots need compare pointers only.
    pub fn or_new(&self, resource: Resource) -> Arc<Resource> {
        let earlier = self.earlier.get(&(resource.kind, &*resource.name)).copied();
        let key = (resource.kind, Arc::clone(&resource.name));
        let beside = self.beside.and_then(|beside| beside.get(&key));
        let equal = earlier.into_iter().chain(beside).find(|known| ***known == resource);
        equal.map_or_else(|| Arc::new(resource), Arc::clone)
    }

    /// How many messages were encoded.
    pub fn encoded(&self) -> u64 {
        self.encoded.get()
    }
}
