//! Pods of a mesh that have proxies, and those whose proxies see a change.
//!
//! Extends `shape` for the scenarios; not needed to measure without proxies.

use crate::shape::Shape;

impl Shape {
    /// Returns the Service and the index of the pod in which the `slot`th proxy runs: one pod of each Service first.
    pub fn slot(self, slot: usize) -> (usize, usize) {
        (slot % self.services, slot / self.services)
    }

    /// Returns the number of the first `slots` proxies that see a change at `service`.
    pub fn receivers(self, service: usize, slots: usize) -> usize {
        let callers = self.callers(service);
        (0..slots).filter(|slot| callers.binary_search(&self.slot(*slot).0).is_ok()).count()
    }
}
