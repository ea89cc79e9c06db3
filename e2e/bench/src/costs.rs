//! Resources used up to a moment, and the difference from an earlier one.
//!
//! Read by `bench` before and after each measurement. Does not know the measurement.

use std::time::{Duration, Instant};

use crate::{
    figures::{Row, in_millis},
    fleet::Totals,
    process::Memory,
    wire::Kind,
};

/// Resources used up to a moment.
pub struct Costs {
    pub at: Instant,
    pub operator: Duration,
    pub client: Duration,
    pub totals: Totals,
    pub memory: Memory,
    pub publishes: f64,
    pub view_updates: f64,
}

impl Costs {
    fn resources(&self) -> u64 {
        self.totals.resources.iter().sum()
    }

    /// Sets the difference from `before`, divided by `parts`: the number of changes, or 1 for the whole.
    pub fn set(&self, row: &mut Row, before: &Self, parts: f64) {
        let (now, then) = (&self.totals, &before.totals);
        let mut each = |name: &str, value: f64| row.set(name, value / parts);
        each("cpu_ms", in_millis(self.operator.saturating_sub(before.operator)));
        each("client_cpu_ms", in_millis(self.client.saturating_sub(before.client)));
        each("messages", (now.messages - then.messages) as f64);
        each("message_bytes", (now.bytes - then.bytes) as f64);
        each("wire_bytes", (now.wire - then.wire) as f64);
        each("body_bytes", (now.bodies - then.bodies) as f64);
        each("resources", (self.resources() - before.resources()) as f64);
        each("woken", self.view_updates - before.view_updates);
        for (kind, name) in Kind::ALL.into_iter().zip(["cds", "eds", "sds", "lds", "ecds", "rds"]) {
            let sent = |totals: &Totals| totals.resources[kind as usize];
            each(name, (sent(now) - sent(then)) as f64);
        }
    }
}
