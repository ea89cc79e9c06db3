//! Run of a proxy at a replica: a time in which it has pushed without a long gap, and without a restart.
//!
//! Pure. Kept by `proxy`, read by `exchange`, which joins the runs of one proxy at several replicas: for that, a run has
//! what the proxy had counted in all at its beginning and at its end. Those times are by the proxy's clock.

use std::{collections::BTreeMap, sync::Arc};

use super::slots::Slots;
use crate::{flow::Flow, traffic::Figures};

/// Cumulative figures of each flow of a proxy.
pub type Totals = BTreeMap<Arc<Flow>, Figures>;

/// Maximum gap between two pushes within a run, in nanoseconds by the proxy's clock: 60 s. Calls of a longer time cannot
/// be attributed to a window, so they are not counted.
pub const LAPSE: u64 = 60_000_000_000;

/// The same in seconds, for times by the replica's clock.
pub const LAPSE_SECONDS: u64 = LAPSE / 1_000_000_000;

/// Run of a proxy.
#[derive(Debug, Clone)]
pub struct Run {
    /// Time since which the proxy counts.
    pub start: u64,
    /// Time from which the run's calls are known: that of the first push, or `start` if all calls are known.
    pub from: u64,
    /// Time of the first push, if what was counted before it is not known.
    pub first_push: Option<u64>,
    /// Time of the second push; 0 before it.
    pub second_push: u64,
    /// Time of the push before the last one.
    pub previous: u64,
    /// Time of the last push.
    pub to: u64,
    /// Time of the first and the last push by the replica's clock, in seconds.
    pub received: (u64, u64),
    /// Totals at `from`.
    pub first: Totals,
    /// Totals at `to`, once the run has ended.
    pub last: Totals,
    /// Calls within the run.
    pub slots: Slots,
}

impl Run {
    /// Begins a run with a push at `time`, received at `now`, of a proxy that counts since `start`. `was_empty`: its
    /// previous push, within the maximum gap, had no series.
    pub fn begin(start: u64, time: u64, now: u64, was_empty: bool) -> Self {
        // All that a young proxy has counted is of this window.
        let is_young = start > 0 && start <= time && time - start <= LAPSE;
        Self {
            start,
            from: if is_young { start } else { time },
            first_push: (!is_young && !was_empty).then_some(time),
            second_push: 0,
            previous: time,
            to: time,
            received: (now, now),
            first: Totals::new(),
            last: Totals::new(),
            slots: Slots::default(),
        }
    }

    /// Returns true if a push at `time` of a proxy that counts since `start` does not belong to this run.
    pub fn is_over(&self, start: u64, time: u64) -> bool {
        time.abs_diff(self.to) > LAPSE || start > self.to
    }

    /// Continues the run with a push.
    pub fn proceed(&mut self, time: u64, now: u64) {
        if time > self.to {
            self.previous = self.to;
            if self.second_push == 0 {
                self.second_push = time;
            }
        }
        (self.to, self.received.1) = (time, now);
    }

    /// Returns true if the run may not have all series of the proxy yet.
    pub fn is_incomplete(&self) -> bool {
        self.first_push.is_some() && self.second_push == 0
    }

    /// Returns true if a series that is new at this time may have been counted before the run: the messages of one push
    /// can reach two replicas, so the first push may have lacked it.
    pub fn is_baseline(&self, time: u64) -> bool {
        self.is_incomplete() || self.first_push.is_some() && time <= self.second_push
    }
}
