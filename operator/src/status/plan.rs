//! Decides which statuses are written now, which later, and which never. Pure: time is a parameter, counted from an
//! arbitrary start.
//!
//! Used by `judge`. A status that the object already has is not written. A status with Ready=True is written at once;
//! one with Ready=False waits a second, as the objects of one `kubectl apply` arrive one by one; a change of messages
//! alone waits ten. All writes share a budget.

use std::{collections::BTreeMap, time::Duration};

use smidge_crds::status::Status;
use smidge_xds::backoff::Backoff;

use super::{
    conditions::{READY, holds, is_same, is_same_but_words},
    programmed::AckCount,
};
use crate::finding::ObjectRef;

/// Delay before a status with Ready=False is written.
const BAD_NEWS_DELAY: Duration = Duration::from_secs(1);
/// Delay between the last write and a change of messages alone.
const REWORD_DELAY: Duration = Duration::from_secs(10);
/// Time limit of proxies that are silent or refuse: after it an object is judged without them.
const STALLED_PROXY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the watch to return a write, or to report that its object is gone.
const WATCH_LAG: Duration = Duration::from_secs(10);
/// Delays before another attempt to write a status.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_mins(1) };
/// Maximum number of writes a second, and of writes at once after a quiet second.
const RATE: f64 = 50.0;

/// State of the objects between two passes.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    objects: BTreeMap<ObjectRef, Memory>,
    /// Number of writes that may be made, and the time at which it was computed.
    budget: Option<(f64, Duration)>,
    /// Time since which this replica leads.
    since: Duration,
}

#[derive(Debug, Clone, Default)]
struct Memory {
    uid: String,
    generation: Option<i64>,
    /// Time since which not every proxy has acknowledged it.
    incomplete: Option<Duration>,
    /// Time since which its status differs from the wanted one.
    differs: Option<Duration>,
    /// Last status that was written, with the time, until the watch returns it.
    written: Option<(Status, Duration)>,
    last_write: Option<Duration>,
    failures: u32,
    not_before: Duration,
}

/// Time at which a status is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Now.
    Now,
    /// Not before then.
    At(Duration),
    /// The object has it already.
    Never,
}

impl Plan {
    /// Creates the plan of a replica that leads from now on.
    pub fn new(now: Duration) -> Self {
        Self { since: now, ..Self::default() }
    }

    /// Returns true if the object is to be judged without the proxies that are behind; if not yet, the time from which
    /// it is.
    pub fn overdue(
        &mut self,
        object: &ObjectRef,
        acks: &AckCount,
        now: Duration,
    ) -> (bool, Option<Duration>) {
        let memory = self.objects.entry(object.clone()).or_default();
        if memory.uid != acks.uid {
            *memory = Memory { uid: acks.uid.clone(), ..Memory::default() };
        }
        if memory.generation != acks.generation || acks.is_complete() {
            memory.generation = acks.generation;
            memory.incomplete = None;
        }
        if acks.is_complete() {
            return (false, None);
        }
        let until = *memory.incomplete.get_or_insert(now) + STALLED_PROXY_TIMEOUT;
        (now >= until, (now < until).then_some(until))
    }

    /// Returns the present status of the object, as far as known: a write that the watch has not returned yet counts.
    pub fn present<'s>(
        &'s mut self,
        object: &ObjectRef,
        watched: Option<&'s Status>,
        now: Duration,
    ) -> Option<&'s Status> {
        let Some(memory) = self.objects.get_mut(object) else { return watched };
        let is_back = |written: &Status| watched.is_some_and(|watched| is_same(watched, written));
        // The status of an object that cannot be read is not known from the watch, so the write is kept.
        let is_readable = !memory.uid.is_empty();
        let is_old = |at: Duration| is_readable && now >= at + WATCH_LAG;
        if memory.written.as_ref().is_some_and(|(written, at)| is_back(written) || is_old(*at)) {
            memory.written = None;
        }
        memory.written.as_ref().map(|(written, _)| written).or(watched)
    }

    /// Returns the time to write `wanted` to an object whose status is `present`.
    pub fn due(
        &mut self,
        object: &ObjectRef,
        wanted: &Status,
        present: Option<&Status>,
        now: Duration,
    ) -> Due {
        let since = self.since;
        let memory = self.objects.entry(object.clone()).or_default();
        if present.is_some_and(|present| is_same(present, wanted)) {
            memory.differs = None;
            return Due::Never;
        }
        let differs = *memory.differs.get_or_insert(now);
        let is_wording = present.is_some_and(|present| is_same_but_words(present, wanted));
        let at = if is_wording {
            memory.last_write.unwrap_or_default().max(since) + REWORD_DELAY
        } else if holds(wanted, READY) {
            now
        } else {
            differs + BAD_NEWS_DELAY
        };
        let at = at.max(memory.not_before);
        if at <= now { Due::Now } else { Due::At(at) }
    }

    /// Returns the maximum number of writes now, and the time at which there is another one.
    pub fn budget(&mut self, now: Duration) -> (usize, Duration) {
        let (left, at) = self.budget.unwrap_or((RATE, now));
        let left = (left + now.saturating_sub(at).as_secs_f64() * RATE).min(RATE);
        self.budget = Some((left, now));
        let next = now + Duration::from_secs_f64((1.0 - left).max(0.0) / RATE);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 50")]
        let whole = left.floor() as usize;
        (whole, next)
    }

    /// Records that a write was tried.
    pub fn spent(&mut self) {
        if let Some((left, _)) = &mut self.budget {
            *left -= 1.0;
        }
    }

    /// Records that the status was written.
    pub fn written(&mut self, object: &ObjectRef, status: Status, now: Duration) {
        let memory = self.objects.entry(object.clone()).or_default();
        memory.written = Some((status, now));
        memory.last_write = Some(now);
        memory.failures = 0;
        memory.differs = None;
    }

    /// Records that the status could not be written; returns the time of the next attempt.
    pub fn failed(&mut self, object: &ObjectRef, now: Duration) -> Duration {
        let memory = self.objects.entry(object.clone()).or_default();
        memory.failures = memory.failures.saturating_add(1);
        memory.not_before = now + RETRY.delay(memory.failures);
        memory.not_before
    }

    /// Records that the object does not exist; returns the time of the next attempt, if the watch has not reported the
    /// removal by then.
    pub fn gone(&mut self, object: &ObjectRef, now: Duration) -> Duration {
        let memory = self.objects.entry(object.clone()).or_default();
        memory.not_before = now + WATCH_LAG;
        memory.not_before
    }

    /// Returns the time at which a write that the watch has not returned is considered lost.
    pub fn echo(&self, object: &ObjectRef) -> Option<Duration> {
        let memory = self.objects.get(object).filter(|memory| !memory.uid.is_empty())?;
        memory.written.as_ref().map(|(_, at)| *at + WATCH_LAG)
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, object: &ObjectRef) {
        self.objects.remove(object);
    }
}
