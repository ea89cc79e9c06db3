//! Which pods of a mesh have proxies, and which of these see a change.
//!
//! Said of `shape`'s mesh, for the scenarios; whoever measures without proxies needs none of it.

use crate::shape::Shape;

impl Shape {
    /// The Service and the number of the pod that the `seat`th proxy runs in: one pod of each Service first.
    pub fn seat(self, seat: usize) -> (usize, usize) {
        (seat % self.services, seat / self.services)
    }

    /// How many of the first `seats` proxies see a change at `service`.
    pub fn receivers(self, service: usize, seats: usize) -> usize {
        let callers = self.callers(service);
        (0..seats).filter(|seat| callers.binary_search(&self.seat(*seat).0).is_ok()).count()
    }
}
