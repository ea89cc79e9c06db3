//! Pods of a mesh that have proxies, and those whose proxies see a change.
//!
//! Extends `shape` for the scenarios; not needed to measure without proxies.

use crate::shape::Shape;

impl Shape {
    /// Returns the Service and the index of the pod in which the `seat`th proxy runs: one pod of each Service first.
    pub fn seat(self, seat: usize) -> (usize, usize) {
        (seat % self.services, seat / self.services)
    }

    /// Returns the number of the first `seats` proxies that see a change at `service`.
    pub fn receivers(self, service: usize, seats: usize) -> usize {
        let callers = self.callers(service);
        (0..seats).filter(|seat| callers.binary_search(&self.seat(*seat).0).is_ok()).count()
    }
}
