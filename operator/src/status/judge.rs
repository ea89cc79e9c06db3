//! Judges the objects of which anything differs from the last time, or whose time has come: which status each should have,
//! and which are to be written now.
//!
//! Used by `keep` on the replica that leads, which writes what comes out and tells how that went. Pure. What it is given
//! is compared with what it was given before, at the cost of what differs; a new judge finds everything new.

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

/// The counts of other replicas, by replica.
pub type Others = BTreeMap<String, AckCounts>;

/// All that statuses are made of, as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The objects.
    pub objects: &'a KnownObjects,
    /// What is wrong with them, errors first.
    pub findings: &'a Arc<Vec<Finding>>,
    /// How far each has come here.
    pub tallies: &'a AckCounts,
    /// How far each has come elsewhere.
    pub others: &'a Arc<Others>,
}

/// A status that is to be written.
#[derive(Debug)]
pub struct StatusUpdate {
    /// The object.
    pub object: ObjectRef,
    /// Which of that name.
    pub uid: String,
    /// What shall stand on it.
    pub status: Status,
    /// It says for the first time that proxies refuse the object, and this is what they say.
    pub refusal: Option<String>,
    is_wording: bool,
}

/// What was judged, and what is still to be.
#[derive(Debug)]
pub struct Reconciler {
    plan: Plan,
    objects: KnownObjects,
    found: Found,
    tallies: AckCounts,
    others: Arc<Others>,
    agenda: RequeueQueue,
    /// Those that were to be written: however that went, they are judged again next time.
    open: BTreeSet<ObjectRef>,
    /// Those that do not say what they should.
    waiting: BTreeSet<ObjectRef>,
    judged: u64,
}

impl Reconciler {
    /// The judge of a replica that leads from now on.
    pub fn new(now: Duration) -> Self {
        Self {
            plan: Plan::new(now),
            objects: KnownObjects::default(),
            found: Found::default(),
            tallies: AckCounts::default(),
            others: Arc::default(),
            agenda: RequeueQueue::default(),
            open: BTreeSet::new(),
            waiting: BTreeSet::new(),
            judged: 0,
        }
    }

    /// What is to be written now; `time` is what conditions say. However much of it is written is told by `written`,
    /// `failed` and `gone`.
    pub fn judge(&mut self, evidence: Observed<'_>, now: Duration, time: &Time) -> Vec<StatusUpdate> {
        let mut again = std::mem::take(&mut self.open);
        again.extend(self.agenda.take(now));
        self.take(evidence, &mut again);
        let wanted = again.into_iter().filter_map(|object| self.judge_one(object, now, time));
        let mut wanted: Vec<StatusUpdate> = wanted.collect();
        wanted.sort_by_key(|wanted| wanted.is_wording);
        wanted
    }

    /// How much of it may be written now, and when there may be more.
    pub fn budget(&mut self, now: Duration) -> (usize, Duration) {
        self.plan.budget(now)
    }

    /// The status stands on the object now.
    pub fn written(&mut self, object: &ObjectRef, status: Status, now: Duration) {
        self.plan.spent();
        self.plan.written(object, status, now);
        self.waiting.remove(object);
        self.plan.echo(object).into_iter().for_each(|at| self.agenda.requeue_by(object, at));
    }

    /// The status could not be written.
    pub fn failed(&mut self, object: &ObjectRef, now: Duration) {
        self.plan.spent();
        let at = self.plan.failed(object, now);
        self.agenda.requeue_by(object, at);
    }

    /// There is no such object, although it was not seen to go.
    pub fn gone(&mut self, object: &ObjectRef, now: Duration) {
        self.plan.spent();
        let at = self.plan.gone(object, now);
        self.agenda.requeue_by(object, at);
    }

    /// When to judge again if nothing else happens, beside what the budget has put off.
    pub fn next(&self) -> Option<Duration> {
        self.agenda.first()
    }

    /// How many objects were judged so far: what a change costs is held by tests through this.
    pub fn judged(&self) -> u64 {
        self.judged
    }

    /// How many objects do not say what they should.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes over what there is now; adds the objects of which anything differs.
    fn take(&mut self, evidence: Observed<'_>, differs: &mut BTreeSet<ObjectRef>) {
        let Observed { objects, findings, tallies, others } = evidence;
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
        differs.extend(self.tallies.diff(tallies).map(|item| key(&item).clone()));
        self.tallies = tallies.clone();
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
        let tally = self.summed(&object)?;
        self.judged += 1;
        let (overdue, until) = self.plan.overdue(&object, &tally, now);
        let present = self.plan.present(&object, known.status.as_ref(), now).cloned();
        let status = conditions::status(&ConditionInputs {
            object: &object,
            generation: known.generation,
            findings: &self.found.of(&object),
            tally: &tally,
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

    /// The count of all replicas.
    fn summed(&self, object: &ObjectRef) -> Option<AckCount> {
        let mut sum = AckCount::clone(self.tallies.get(object)?);
        for other in self.others.values().filter_map(|tallies| tallies.get(object)) {
            sum.add(other);
        }
        Some(sum)
    }
}

/// The object that an item of a comparison is about.
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
