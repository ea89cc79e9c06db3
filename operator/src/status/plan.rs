//! Decides which statuses are written now, which later, and which never. Pure: time is a parameter, counted from
//! anywhere.
//!
//! Used by `judge`. Nothing is written that stands there already. Good news goes out at once, bad news waits a second, as
//! the objects of one `kubectl apply` arrive one by one; a change of wording alone waits ten. All writes share a budget.

use std::{collections::BTreeMap, time::Duration};

use smidge_crds::status::Status;

use super::{
    conditions::{READY, holds, is_same, is_same_but_words},
    programmed::AckCount,
};
use crate::finding::ObjectRef;

/// How long bad news must be true before it is written.
const BAD_NEWS_DELAY: Duration = Duration::from_secs(1);
/// How long a new wording must wait after the last write.
const REWORD_DELAY: Duration = Duration::from_secs(10);
/// For how long a proxy that is silent, or refuses, can hold an object up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a write, or that its object is gone, may take to come back through the watch.
const WATCH_LAG: Duration = Duration::from_secs(10);
/// The pause after a failed write doubles from the one to the other.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));
/// Writes a second, and at once after a quiet second.
const RATE: f64 = 50.0;

/// What is remembered of the objects between two looks.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    objects: BTreeMap<ObjectRef, Memory>,
    /// Writes that may be made, and when that was counted.
    budget: Option<(f64, Duration)>,
    /// Since when this replica leads.
    since: Duration,
}

#[derive(Debug, Clone, Default)]
struct Memory {
    uid: String,
    generation: Option<i64>,
    /// Since when not every proxy has it.
    incomplete: Option<Duration>,
    /// Since when it should say something else.
    differs: Option<Duration>,
    /// What was written last, until it comes back.
    written: Option<(Status, Duration)>,
    last_write: Option<Duration>,
    failures: u32,
    not_before: Duration,
}

/// When a status is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Now.
    Now,
    /// Not before then.
    At(Duration),
    /// It stands there.
    Never,
}

impl Plan {
    /// A plan of a replica that leads from now on.
    pub fn new(now: Duration) -> Self {
        Self { since: now, ..Self::default() }
    }

    /// Whether the object is to be judged without the proxies that are behind, and else when.
    pub fn overdue(
        &mut self,
        object: &ObjectRef,
        tally: &AckCount,
        now: Duration,
    ) -> (bool, Option<Duration>) {
        let memory = self.objects.entry(object.clone()).or_default();
        if memory.uid != tally.uid {
            *memory = Memory { uid: tally.uid.clone(), ..Memory::default() };
        }
        if memory.generation != tally.generation || tally.is_complete() {
            memory.generation = tally.generation;
            memory.incomplete = None;
        }
        if tally.is_complete() {
            return (false, None);
        }
        let until = *memory.incomplete.get_or_insert(now) + PATIENCE;
        (now >= until, (now < until).then_some(until))
    }

    /// What stands on the object, as far as known: a write that has not come back yet counts.
    pub fn present<'s>(
        &'s mut self,
        object: &ObjectRef,
        watched: Option<&'s Status>,
        now: Duration,
    ) -> Option<&'s Status> {
        let Some(memory) = self.objects.get_mut(object) else { return watched };
        let is_back = |written: &Status| watched.is_some_and(|watched| is_same(watched, written));
        // One that cannot be read shows us no status, either.
        let is_readable = !memory.uid.is_empty();
        let is_old = |at: Duration| is_readable && now >= at + WATCH_LAG;
        if memory.written.as_ref().is_some_and(|(written, at)| is_back(written) || is_old(*at)) {
            memory.written = None;
        }
        memory.written.as_ref().map(|(written, _)| written).or(watched)
    }

    /// When to write `wanted` onto an object on which `present` stands.
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

    /// How many writes may be made now, and when there will be another one.
    pub fn budget(&mut self, now: Duration) -> (usize, Duration) {
        let (left, at) = self.budget.unwrap_or((RATE, now));
        let left = (left + now.saturating_sub(at).as_secs_f64() * RATE).min(RATE);
        self.budget = Some((left, now));
        let next = now + Duration::from_secs_f64((1.0 - left).max(0.0) / RATE);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 50")]
        let whole = left.floor() as usize;
        (whole, next)
    }

    /// A write was tried.
    pub fn spent(&mut self) {
        if let Some((left, _)) = &mut self.budget {
            *left -= 1.0;
        }
    }

    /// The status stands on the object now.
    pub fn written(&mut self, object: &ObjectRef, status: Status, now: Duration) {
        let memory = self.objects.entry(object.clone()).or_default();
        memory.written = Some((status, now));
        memory.last_write = Some(now);
        memory.failures = 0;
        memory.differs = None;
    }

    /// The status could not be written; when to try again.
    pub fn failed(&mut self, object: &ObjectRef, now: Duration) -> Duration {
        let memory = self.objects.entry(object.clone()).or_default();
        let (first, last) = RETRY;
        memory.not_before = now + first.saturating_mul(1 << memory.failures.min(10)).min(last);
        memory.failures += 1;
        memory.not_before
    }

    /// There is no such object to write it onto; when to try again, if the watch does not say so by then.
    pub fn gone(&mut self, object: &ObjectRef, now: Duration) -> Duration {
        let memory = self.objects.entry(object.clone()).or_default();
        memory.not_before = now + WATCH_LAG;
        memory.not_before
    }

    /// When a write that has not come back is taken for lost.
    pub fn echo(&self, object: &ObjectRef) -> Option<Duration> {
        let memory = self.objects.get(object).filter(|memory| !memory.uid.is_empty())?;
        memory.written.as_ref().map(|(_, at)| *at + WATCH_LAG)
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, object: &ObjectRef) {
        self.objects.remove(object);
    }
}
