//! Pushes of statistics that are due: each proxy's once in a period, all of them evenly over it.
//!
//! Kept by `fleet`, which sends them. Opens no connection.

use std::time::{Duration, Instant, SystemTime};

use crate::push::Push;

/// Proxies that push until they are stopped.
#[derive(Debug)]
pub(super) struct Pushing {
    push: Push,
    /// Number of proxies.
    count: usize,
    period: Duration,
    started: Instant,
    start: SystemTime,
    /// Number of pushes that were taken.
    taken: u64,
}

impl Pushing {
    /// Starts with the first of `count` proxies, now.
    pub fn start(push: Push, count: usize, period: Duration) -> Self {
        Self {
            push,
            count: count.max(1),
            period,
            started: Instant::now(),
            start: SystemTime::now(),
            taken: 0,
        }
    }

    /// Returns the next push if it is due: its proxy, and the message.
    pub fn next(&mut self) -> Option<(usize, Vec<u8>)> {
        if !self.wait().is_zero() {
            return None;
        }
        let count = self.count as u64;
        let (slot, made) = ((self.taken % count) as usize, self.taken / count);
        self.taken += 1;
        Some((slot, self.push.message(slot, made, self.start)))
    }

    /// Returns the time until the next push is due.
    pub fn wait(&self) -> Duration {
        let due = self.period.mul_f64(self.taken as f64 / self.count as f64);
        due.saturating_sub(self.started.elapsed())
    }
}
