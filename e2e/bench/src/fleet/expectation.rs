//! Change that is expected at a number of proxies, and its time of arrival at each.
//!
//! Filled by `fleet` as resources arrive. Does not know the content of the change.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::{names::Id, sidecar::Change, wire::Kind};

/// The expected change, and its arrivals.
pub(super) struct Expectation {
    kind: Kind,
    name: Id,
    count: usize,
    seen: Vec<bool>,
    times: Vec<Instant>,
    reply: Option<oneshot::Sender<Vec<Instant>>>,
}

impl Expectation {
    /// Expects the first change of a resource, by kind and name, at `count` of `slots` proxies.
    pub fn new(
        (kind, name): (Kind, Id),
        slots: usize,
        count: usize,
        reply: oneshot::Sender<Vec<Instant>>,
    ) -> Self {
        let (seen, times) = (vec![false; slots], Vec::with_capacity(count));
        Self { kind, name, count, seen, times, reply: Some(reply) }
    }

    /// Records that a proxy has received a change.
    pub fn see(&mut self, slot: usize, change: Change, at: Instant) {
        if change.kind != self.kind
            || change.name != self.name
            || std::mem::replace(&mut self.seen[slot], true)
        {
            return;
        }
        self.times.push(at);
        if self.times.len() == self.count
            && let Some(reply) = self.reply.take()
        {
            let _ = reply.send(std::mem::take(&mut self.times));
        }
    }
}
