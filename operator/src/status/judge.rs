//! Judges the objects of which an input has changed, or which are due: computes the status of each, and decides which
//! statuses are to be written now.
//!
//! Used by `status_loop` on the replica that leads, which writes the statuses and reports the results. Pure. The inputs are
//! compared with those of the last call, at the cost of the difference; a new `Reconciler` treats all of them as new.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use imbl::ordmap::DiffItem;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use smidge_crds::status::Status;

use super::{
    agenda::RequeueQueue,
    conditions::{self, ConditionInputs, PROGRAMMED, REJECTED},
    found::Found,
    plan::{Due, Plan},
    programmed::{AckCount, AckCounts},
};
use crate::{
    finding::{Finding, ObjectRef},
    objects::KnownObjects,
};

/// Counts of other replicas, by replica.
pub type Others = BTreeMap<String, AckCounts>;

/// Present inputs of all statuses.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The objects.
    pub objects: &'a KnownObjects,
    /// Findings about the objects, errors first.
    pub findings: &'a Arc<Vec<Finding>>,
    /// Acknowledgement counts of this replica.
    pub counts: &'a AckCounts,
    /// Acknowledgement counts of the other replicas.
    pub others: &'a Arc<Others>,
}

/// A status that is to be written.
#[derive(Debug)]
pub struct StatusUpdate {
    /// The object.
    pub object: ObjectRef,
    /// UID of the object.
    pub uid: String,
    /// New status of the object.
    pub status: Status,
    /// Message of the `Programmed` condition, if it reports for the first time that proxies refuse the object.
    pub refusal: Option<String>,
    is_wording: bool,
}

/// State of judging: the last inputs, the plan of writes, and the objects that are still to be judged.
#[derive(Debug)]
pub struct Reconciler {
    plan: Plan,
    objects: KnownObjects,
    found: Found,
    counts: AckCounts,
    others: Arc<Others>,
    agenda: RequeueQueue,
    /// Objects whose status was to be written: they are judged again next time, whatever the result of the write.
    open: BTreeSet<ObjectRef>,
    /// Objects whose status is not the wanted one yet.
    waiting: BTreeSet<ObjectRef>,
    judged: u64,
}

impl Reconciler {
    /// Creates the state for a replica that leads from now on.
    pub fn new(now: Duration) -> Self {
        Self {
            plan: Plan::new(now),
            objects: KnownObjects::default(),
            found: Found::default(),
            counts: AckCounts::default(),
            others: Arc::default(),
            agenda: RequeueQueue::default(),
            open: BTreeSet::new(),
            waiting: BTreeSet::new(),
            judged: 0,
        }
    }

    /// Returns the statuses to be written now; `time` is the time of new conditions. The caller may write a part of
    /// them, and reports the result of each write by `written`, `failed` or `gone`.
    pub fn judge(&mut self, evidence: Observed<'_>, now: Duration, time: &Time) -> Vec<StatusUpdate> {
        let mut again = std::mem::take(&mut self.open);
        again.extend(self.agenda.take(now));
        self.take(evidence, &mut again);
        let wanted = again.into_iter().filter_map(|object| self.judge_one(object, now, time));
        let mut wanted: Vec<StatusUpdate> = wanted.collect();
        wanted.sort_by_key(|wanted| wanted.is_wording);
        wanted
    }

    /// Returns the maximum number of writes now, and the time at which there may be more.
    pub fn budget(&mut self, now: Duration) -> (usize, Duration) {
        self.plan.budget(now)
    }

    /// Records that the status was written.
    pub fn written(&mut self, object: &ObjectRef, status: Status, now: Duration) {
        self.plan.spent();
        self.plan.written(object, status, now);
        self.waiting.remove(object);
        self.plan.echo(object).into_iter().for_each(|at| self.agenda.requeue_by(object, at));
    }

    /// Records that the status could not be written.
    pub fn failed(&mut self, object: &ObjectRef, now: Duration) {
        self.plan.spent();
        let at = self.plan.failed(object, now);
        self.agenda.requeue_by(object, at);
    }

    /// Records that the object does not exist, although the watch has not reported its removal.
    pub fn gone(&mut self, object: &ObjectRef, now: Duration) {
        self.plan.spent();
        let at = self.plan.gone(object, now);
        self.agenda.requeue_by(object, at);
    }

    /// Returns the time to judge again if nothing else happens, without regard to the writes that the budget has
    /// postponed.
    pub fn next(&self) -> Option<Duration> {
        self.agenda.first()
    }

    /// Returns the number of objects that were judged so far, by which tests bound the cost of a change.
    pub fn judged(&self) -> u64 {
        self.judged
    }

    /// Returns the number of objects whose status is not the wanted one yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Replaces the inputs; adds the objects of which anything differs to `differs`.
    fn take(&mut self, evidence: Observed<'_>, differs: &mut BTreeSet<ObjectRef>) {
        let Observed { objects, findings, counts, others } = evidence;
        let earlier = std::mem::replace(&mut self.objects, objects.clone());
        for item in earlier.diff(objects) {
            if let DiffItem::Remove(object, _) = item {
                self.plan.forget(object);
                self.agenda.set(object, None);
                self.waiting.remove(object);
            }
            differs.insert(key(&item).clone());
        }
        differs.extend(self.found.take(findings));
        differs.extend(self.counts.diff(counts).map(|item| key(&item).clone()));
        self.counts = counts.clone();
        if !Arc::ptr_eq(&self.others, others) {
            let earlier = std::mem::replace(&mut self.others, Arc::clone(others));
            for replica in earlier.keys().chain(others.keys()).collect::<BTreeSet<_>>() {
                let of = |all: &Others| all.get(replica).cloned().unwrap_or_default();
                differs.extend(of(&earlier).diff(&of(others)).map(|item| key(&item).clone()));
            }
        }
    }

    fn judge_one(&mut self, object: ObjectRef, now: Duration, time: &Time) -> Option<StatusUpdate> {
        let known = self.objects.get(&object)?;
        let acks = self.summed(&object)?;
        self.judged += 1;
        let (overdue, until) = self.plan.overdue(&object, &acks, now);
        let present = self.plan.present(&object, known.status.as_ref(), now).cloned();
        let status = conditions::status(&ConditionInputs {
            object: &object,
            generation: known.generation,
            findings: &self.found.of(&object),
            acks: &acks,
            overdue,
            present: present.as_ref(),
            now: time,
        });
        let due = self.plan.due(&object, &status, present.as_ref(), now);
        let later = if let Due::At(at) = due { Some(at) } else { None };
        let times = [until, later, self.plan.echo(&object)];
        self.agenda.set(&object, times.into_iter().flatten().min());
        if due == Due::Never {
            self.waiting.remove(&object);
        } else {
            self.waiting.insert(object.clone());
        }
        if due != Due::Now {
            return None;
        }
        self.open.insert(object.clone());
        Some(StatusUpdate::new(object, &known.uid, status, present.as_ref()))
    }

    /// Returns the sum of the counts of all replicas.
    fn summed(&self, object: &ObjectRef) -> Option<AckCount> {
        let mut sum = AckCount::clone(self.counts.get(object)?);
        for other in self.others.values().filter_map(|counts| counts.get(object)) {
            sum.add(other);
        }
        Some(sum)
    }
}

/// Returns the object that an item of a comparison is about.
fn key<'a, V>(item: &DiffItem<'a, 'a, ObjectRef, V>) -> &'a ObjectRef {
    match item {
        DiffItem::Add(object, _)
        | DiffItem::Remove(object, _)
        | DiffItem::Update { new: (object, _), .. } => object,
    }
}

impl StatusUpdate {
    fn new(object: ObjectRef, uid: &str, status: Status, present: Option<&Status>) -> Self {
        let refusal = |status: &Status| {
            let programmed = conditions::of(status, PROGRAMMED).filter(|it| it.reason == REJECTED);
            programmed.map(|it| it.message.clone())
        };
        let is_new = present.and_then(refusal).is_none();
        Self {
            object,
            uid: uid.to_owned(),
            refusal: refusal(&status).filter(|_| is_new),
            is_wording: present.is_some_and(|present| conditions::is_same_but_words(present, &status)),
            status,
        }
    }
}
