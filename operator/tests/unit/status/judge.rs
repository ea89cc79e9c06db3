//! A reconciler that judges what differs returns the same, at the same time, as one that judges everything each time;
//! and an object that does not differ is not judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use proptest::{collection::vec, prelude::*};
use smidge::{
    finding::{Finding, ObjectRef, Reason},
    objects::{Known, KnownObjects},
    status::{
        conditions::{self, ConditionInputs, is_same_but_words},
        judge::{Observed, Others, Reconciler},
        plan::{Due, Plan},
        programmed::{AckCount, AckCounts},
    },
};
use smidge_crds::status::Status;
use smidge_xds_testing::properties;

/// An event. The first number selects the object.
#[derive(Debug, Clone)]
enum Step {
    Object(usize, i64),
    Gone(usize),
    AckCount(usize, [usize; 3]),
    Other(usize, usize, [usize; 2]),
    OtherGone(usize),
    Finding(usize, usize),
    /// The status that was written last returns through the watch.
    Echo(usize),
    /// Another client removes the status.
    Wiped(usize),
    /// After so many milliseconds all objects are judged; of the due statuses so many are written, and the next one has
    /// this outcome.
    Judge(u64, usize, Next),
}

#[derive(Debug, Clone, Copy)]
enum Next {
    Waits,
    Fails,
    Gone,
}

const OBJECTS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let it = || 0..OBJECTS;
    prop_oneof![
        3 => (it(), 1..3_i64).prop_map(|(it, generation)| Step::Object(it, generation)),
        1 => it().prop_map(Step::Gone),
        4 => (it(), [0..3_usize, 0..3, 0..2]).prop_map(|(it, counts)| Step::AckCount(it, counts)),
        1 => (0..2_usize, it(), [0..2_usize, 0..2]).prop_map(|(by, it, counts)| Step::Other(by, it, counts)),
        1 => (0..2_usize).prop_map(Step::OtherGone),
        2 => (it(), 0..3_usize).prop_map(|(it, reason)| Step::Finding(it, reason)),
        3 => it().prop_map(Step::Echo),
        1 => it().prop_map(Step::Wiped),
        8 => (prop_oneof![Just(0), Just(100), Just(1000), Just(3000), Just(11_000)], 0..3_usize, prop_oneof![Just(Next::Waits), Just(Next::Fails), Just(Next::Gone)])
            .prop_map(|(later, budget, next)| Step::Judge(later, budget, next)),
    ]
}

fn object(it: usize) -> ObjectRef {
    ObjectRef::new(["TrafficTarget", "TrafficSplit", "UDPRoute"][it], "shop", "it")
}

/// State of the cluster so far.
#[derive(Default)]
struct Harness {
    now: Duration,
    objects: KnownObjects,
    findings: BTreeSet<Finding>,
    counts: AckCounts,
    others: Arc<Others>,
    written: BTreeMap<ObjectRef, Status>,
}

impl Harness {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Object(it, generation) => {
                let status = self.objects.get(&object(it)).and_then(|known| known.status.clone());
                self.put(it, status, generation);
                let acks =
                    AckCount { uid: "u".to_owned(), generation: Some(generation), ..AckCount::default() };
                self.counts.insert(object(it), Arc::new(acks));
            }
            Step::Gone(it) => {
                self.objects.remove(&object(it));
                self.counts.remove(&object(it));
            }
            Step::AckCount(it, [concerned, acknowledged, refused]) => {
                let Some(acks) = self.counts.get_mut(&object(it)) else { return };
                let acknowledged = acknowledged.min(concerned);
                let refused = refused.min(concerned - acknowledged);
                let words = (0..refused).map(|_| ("shop/web".to_owned(), "no".to_owned())).collect();
                let before = AckCount::clone(acks);
                *acks =
                    Arc::new(AckCount { in_effect: true, concerned, acknowledged, refused, words, ..before });
            }
            Step::Other(by, it, [acknowledged, refused]) => {
                let generation = self.objects.get(&object(it)).and_then(|known| known.generation);
                let acks = AckCount {
                    uid: "u".to_owned(),
                    generation,
                    acknowledged,
                    refused,
                    ..AckCount::default()
                };
                let replica = Arc::make_mut(&mut self.others).entry(format!("smidge-{by}")).or_default();
                replica.insert(object(it), Arc::new(acks));
            }
            Step::OtherGone(by) => {
                Arc::make_mut(&mut self.others).remove(&format!("smidge-{by}"));
            }
            Step::Finding(it, reason) => {
                let reason = [Reason::Empty, Reason::RouteNotFound, Reason::RootServiceInferred][reason];
                let finding = Finding::new(object(it), reason, "so it is");
                if !self.findings.remove(&finding) {
                    self.findings.insert(finding);
                }
            }
            Step::Echo(it) => {
                let Some(known) = self.objects.get(&object(it)).cloned() else { return };
                self.put(it, self.written.get(&object(it)).cloned(), known.generation.unwrap());
            }
            Step::Wiped(it) => {
                let Some(known) = self.objects.get(&object(it)).cloned() else { return };
                self.put(it, None, known.generation.unwrap());
            }
            Step::Judge(later, ..) => self.now += Duration::from_millis(later),
        }
    }

    fn put(&mut self, it: usize, status: Option<Status>, generation: i64) {
        let known = Known { uid: "u".to_owned(), generation: Some(generation), status, uses: Vec::new() };
        self.objects.insert(object(it), Arc::new(known));
    }

    fn time(&self) -> Time {
        Time(Timestamp::from_second(i64::try_from(self.now.as_secs()).unwrap()).unwrap())
    }

    /// Judges every object: returns the statuses that are due, the number of those that wait or are due, and the next
    /// time.
    fn check_all(&self, plan: &mut Plan) -> (Vec<(ObjectRef, Status)>, usize, Option<Duration>) {
        let (now, time) = (self.now, self.time());
        (0..OBJECTS)
            .filter(|it| !self.objects.contains_key(&object(*it)))
            .for_each(|it| plan.forget(&object(it)));
        let (mut due, mut waiting, mut next) = (Vec::new(), 0, None);
        for (object, known) in &self.objects {
            let mut acks = AckCount::clone(&self.counts[object]);
            self.others.values().filter_map(|counts| counts.get(object)).for_each(|other| acks.add(other));
            let (overdue, until) = plan.overdue(object, &acks, now);
            let present = plan.present(object, known.status.as_ref(), now).cloned();
            let findings: Vec<&Finding> = self.findings.iter().filter(|it| it.object == *object).collect();
            let status = conditions::status(&ConditionInputs {
                object,
                generation: known.generation,
                findings: &findings,
                acks: &acks,
                overdue,
                present: present.as_ref(),
                now: &time,
            });
            let mut at = None;
            match plan.due(object, &status, present.as_ref(), now) {
                Due::Now => {
                    let is_wording = present.as_ref().is_some_and(|it| is_same_but_words(it, &status));
                    due.push((is_wording, object.clone(), status));
                    waiting += 1;
                }
                Due::At(then) => {
                    at = Some(then);
                    waiting += 1;
                }
                Due::Never => {}
            }
            next = [next, until, at, plan.echo(object)].into_iter().flatten().min();
        }
        due.sort_by_key(|(is_wording, ..)| *is_wording);
        (due.into_iter().map(|(_, object, status)| (object, status)).collect(), waiting, next)
    }
}

proptest! {
    #![proptest_config(properties::config(192))]
    #[test]
    fn judging_what_differs_says_the_same_as_judging_everything(steps in vec(step(), 1..80)) {
        let mut harness = Harness::default();
        let (mut judge, mut plan) = (Reconciler::new(harness.now), Plan::new(harness.now));
        let mut findings = Arc::default();
        for step in &steps {
            harness.take(step);
            let Step::Judge(_, budget, outcome) = step else { continue };
            let now = harness.now;
            // As the publisher does: the very same list as long as its content is equal.
            let found: Vec<Finding> = harness.findings.iter().cloned().collect();
            if *findings != found {
                findings = Arc::new(found);
            }
            let Harness { objects, counts, others, .. } = &harness;
            let evidence = Observed { objects, findings: &findings, counts, others };
            let wanted = judge.judge(evidence, now, &harness.time());
            let (due, waiting, _) = harness.check_all(&mut plan);
            let wanted: Vec<_> = wanted.into_iter().map(|wanted| (wanted.object, wanted.status)).collect();
            prop_assert_eq!(&wanted, &due, "at {:?}", now);
            prop_assert_eq!(judge.waiting(), waiting);
            for (place, (object, status)) in wanted.into_iter().take(budget + 1).enumerate() {
                if place < *budget {
                    judge.written(&object, status.clone(), now);
                    plan.written(&object, status.clone(), now);
                    harness.written.insert(object, status);
                    continue;
                }
                match outcome {
                    Next::Waits => {}
                    Next::Fails => {
                        judge.failed(&object, now);
                        plan.failed(&object, now);
                    }
                    Next::Gone => {
                        judge.gone(&object, now);
                        plan.gone(&object, now);
                    }
                }
            }
            // A copy, as this look changes the plan, and it is not a look of the reconciler.
            let (_, _, next) = harness.check_all(&mut plan.clone());
            let wake = judge.next();
            prop_assert!(wake.is_none_or(|wake| wake > now), "it does not sleep");
            prop_assert!(next.is_none_or(|next| wake.is_some_and(|wake| wake <= next)), "it sleeps past {next:?}");
        }
    }
}

#[test]
fn what_does_not_differ_is_not_judged() {
    let mut harness = Harness::default();
    let mut judge = Reconciler::new(harness.now);
    let findings = Arc::default();
    let mut check = |harness: &mut Harness| {
        let before = judge.judged();
        let Harness { objects, counts, others, .. } = &*harness;
        let evidence = Observed { objects, findings: &findings, counts, others };
        for wanted in judge.judge(evidence, harness.now, &harness.time()) {
            judge.written(&wanted.object, wanted.status.clone(), harness.now);
            harness.written.insert(wanted.object, wanted.status);
        }
        judge.judged() - before
    };
    (0..OBJECTS).for_each(|it| harness.take(&Step::Object(it, 1)));
    assert_eq!(check(&mut harness), 3);
    (0..OBJECTS).for_each(|it| harness.take(&Step::Echo(it)));
    assert_eq!(check(&mut harness), 3, "what was written, and has come back");
    assert_eq!(check(&mut harness), 0);
    harness.take(&Step::AckCount(0, [2, 1, 0]));
    assert_eq!(check(&mut harness), 1);
    harness.now += Duration::from_secs(9);
    assert_eq!(check(&mut harness), 0);
    harness.now += Duration::from_secs(1);
    assert_eq!(check(&mut harness), 1, "its patience is at an end");
}
