//! Keeps what the flows of a proxy have counted, by slots of time: fine for the last minutes, coarse for an hour.
//!
//! Pure. One for each run of a proxy (`run`). Slots begin at multiples of their length, so that fine ones can be
//! joined into coarse ones. Time is that of the replica, in seconds since its start.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    flow::Flow,
    outcome::Outcome,
    traffic::{BUCKETS, Figures},
};

/// Length of a slot at first, in seconds, equal to the interval of pushes.
pub const FINE: u64 = 10;
/// (age from which slots are joined, length of the slots that result), in seconds.
const COARSE: [(u64, u64); 2] = [(300, 60), (900, 300)];
/// Age from which a slot is dropped, in seconds: the longest window.
pub const LONGEST: u64 = 3_600;
/// Maximum number of slots: 36 fine ones, 14 of a minute, 10 of five minutes, and those at the ends.
pub const MAX_SLOTS: usize = 64;

/// Calls of one flow within a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Delta {
    counts: [u32; 3],
    latency: Option<Box<[u32; BUCKETS]>>,
}

#[derive(Debug, Clone)]
struct Slot {
    start: u64,
    len: u64,
    deltas: BTreeMap<Arc<Flow>, Delta>,
}

/// Slots of a run, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    slots: VecDeque<Slot>,
}

impl Delta {
    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, one)| *sum = sum.saturating_add(one));
        if let Some(added) = &other.latency {
            let latency = self.latency.get_or_insert_default();
            latency.iter_mut().zip(added.iter()).for_each(|(sum, one)| *sum = sum.saturating_add(*one));
        }
    }

    fn figures(&self) -> Figures {
        let [success, failure, refused] = self.counts.map(u64::from);
        let latency = self.latency.as_ref().map(|latency| latency.map(u64::from)).unwrap_or_default();
        Figures { success, failure, refused, latency }
    }
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Slots {
    /// Adds calls of an outcome at the time `now`.
    pub fn count(&mut self, now: u64, flow: &Arc<Flow>, outcome: Outcome, calls: u64) {
        let Some(delta) = self.delta(now, flow) else { return };
        let [success, failure, refused] = &mut delta.counts;
        let count = match outcome {
            Outcome::Success => success,
            Outcome::Failure => failure,
            Outcome::Refused => refused,
            Outcome::Repeated => return,
        };
        *count = count.saturating_add(narrow(calls));
    }

    /// Adds latencies at the time `now`.
    pub fn observe(&mut self, now: u64, flow: &Arc<Flow>, buckets: &[u64; BUCKETS]) {
        let Some(delta) = self.delta(now, flow) else { return };
        delta.add(&Delta { counts: [0; 3], latency: Some(Box::new(buckets.map(narrow))) });
    }

    fn delta(&mut self, now: u64, flow: &Arc<Flow>) -> Option<&mut Delta> {
        let start = now - now % FINE;
        if self.slots.back().is_none_or(|last| last.start + last.len <= start) {
            self.slots.push_back(Slot { start, len: FINE, deltas: BTreeMap::new() });
        }
        Some(self.slots.back_mut()?.deltas.entry(Arc::clone(flow)).or_default())
    }

    /// Joins and drops slots by their age.
    pub fn age(&mut self, now: u64) {
        while self.slots.front().is_some_and(|slot| slot.start + slot.len + LONGEST <= now) {
            self.slots.pop_front();
        }
        for (age, len) in COARSE {
            let is_due = |slot: &Slot| slot.len < len && slot.start - slot.start % len + len + age <= now;
            if !self.slots.iter().any(is_due) {
                continue;
            }
            for mut slot in std::mem::take(&mut self.slots) {
                if is_due(&slot) {
                    (slot.start, slot.len) = (slot.start - slot.start % len, len);
                }
                self.push(slot);
            }
        }
    }

    /// Appends a slot, or joins it with the last one.
    fn push(&mut self, slot: Slot) {
        match self.slots.back_mut() {
            Some(last) if slot.start < last.start + last.len => {
                for (flow, delta) in &slot.deltas {
                    last.deltas.entry(Arc::clone(flow)).or_default().add(delta);
                }
            }
            _ => self.slots.push_back(slot),
        }
    }

    /// Returns the number of flows that have counted something, summed over slots.
    pub fn deltas(&self) -> usize {
        self.slots.iter().map(|slot| slot.deltas.len()).sum()
    }

    /// Returns the figures of each flow since the time `from`. A slot in which `from` is counts if most of it is later.
    pub fn since(&self, from: u64) -> BTreeMap<Arc<Flow>, Figures> {
        let mut sums = BTreeMap::<Arc<Flow>, Figures>::new();
        for slot in self.slots.iter().rev().take_while(|slot| slot.start + slot.len / 2 >= from) {
            for (flow, delta) in &slot.deltas {
                sums.entry(Arc::clone(flow)).or_default().add(&delta.figures());
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Peer;

    fn flow() -> Arc<Flow> {
        Arc::new(Flow::Inbound { peer: Peer::default(), route: String::new() })
    }

    fn success(slots: &Slots, from: u64) -> u64 {
        slots.since(from).values().map(|figures| figures.success).sum()
    }

    #[test]
    fn every_window_is_answered_within_a_tenth_and_memory_is_bounded() {
        let (mut slots, flow) = (Slots::default(), flow());
        for now in 0..3 * LONGEST {
            slots.count(now, &flow, Outcome::Success, 1);
            slots.age(now);
            assert!(slots.deltas() <= MAX_SLOTS, "{} at {now}", slots.deltas());
            if now < LONGEST {
                assert_eq!(success(&slots, 0), now + 1, "nothing is lost by joining");
                continue;
            }
            for (window, error) in
                [(10, 5), (30, 5), (60, 5), (300, 5), (600, 30), (900, 30), (1_800, 150), (3_600, 150)]
            {
                let counted = success(&slots, now - window);
                assert!(counted.abs_diff(window) <= error + 1, "{counted} in {window} at {now}");
            }
        }
    }

    #[test]
    fn counts_saturate() {
        let (mut slots, flow) = (Slots::default(), flow());
        for _ in 0..3 {
            slots.count(5, &flow, Outcome::Failure, u64::MAX);
            slots.observe(5, &flow, &[u64::MAX; BUCKETS]);
        }
        let [figures] = slots.since(0).into_values().collect::<Vec<_>>()[..] else { unreachable!() };
        assert_eq!((figures.failure, figures.latency), (u64::from(u32::MAX), [u64::from(u32::MAX); BUCKETS]));
    }

    #[test]
    fn time_that_does_not_pass_makes_no_slots() {
        let (mut slots, flow) = (Slots::default(), flow());
        slots.count(100, &flow, Outcome::Success, 1);
        slots.count(50, &flow, Outcome::Success, 1);
        assert_eq!((slots.deltas(), success(&slots, 100)), (1, 2));
    }
}
