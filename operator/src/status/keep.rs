//! The loop that keeps statuses true: counts acknowledgements on every replica, and writes on the one that leads.
//!
//! Started by `runtime`. Woken by what was published, by proxies that answer, by other replicas' counts and by the
//! lease; looks at all objects then, which takes milliseconds, and writes what `plan` finds due.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::Client;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use smidge_crds::status::Status;
use smidge_xds::server::Proxies;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{
    conditions::{self, Facts, PROGRAMMED, REFUSED},
    plan::{Due, Plan},
    programmed::{Concerns, Tallies, Tally},
    write::{WriteError, write},
};
use crate::{
    clock::Clock,
    finding::{Finding, ObjectRef},
    lease::Leader,
    publish::Turn,
    report,
};

/// The least time between two looks: proxies that answer one after another are counted together.
const GAP: Duration = Duration::from_millis(100);
/// Writes under way at once.
const AT_ONCE: usize = 4;
/// The longest sleep.
const GLANCE: Duration = Duration::from_mins(1);

/// What the loop is fed with.
pub struct Sources {
    /// What was published.
    pub turns: watch::Receiver<Option<Arc<Turn>>>,
    /// Who is connected here.
    pub proxies: Proxies,
    /// The counts of other replicas, by replica; empty where this one does not lead.
    pub others: watch::Receiver<Arc<BTreeMap<String, Tallies>>>,
    /// Whether this replica leads.
    pub leader: watch::Receiver<Leader>,
    /// The counts of this one go here.
    pub own: watch::Sender<Arc<Tallies>>,
    /// The API server.
    pub client: Client,
    /// The time that conditions say.
    pub clock: Clock,
    /// Counts.
    pub metrics: Metrics,
}

/// What statuses cost.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    writes: Counter,
    failures: Counter,
    waiting: Gauge,
}

impl Metrics {
    /// Registers the metrics; the caller chooses the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("status_writes", "Statuses written", metrics.writes.clone());
        registry.register(
            "status_write_failures",
            "Statuses that could not be written, and will be tried again",
            metrics.failures.clone(),
        );
        registry.register(
            "status_writes_waiting",
            "Statuses that are out of date and will be written",
            metrics.waiting.clone(),
        );
        metrics
    }
}

/// Keeps statuses true until the publisher ends.
pub async fn keep(sources: Sources) {
    let cost = Duration::ZERO;
    let mut keeper = Keeper { started: Instant::now(), cost, concerns: None, plan: None, sources };
    let mut answers = keeper.sources.proxies.changes();
    let mut wake = Instant::now() + GLANCE;
    loop {
        let Sources { turns, others, leader, .. } = &mut keeper.sources;
        tokio::select! {
            changed = turns.changed() => if changed.is_err() { return },
            Ok(()) = answers.changed() => {}
            Ok(()) = others.changed() => {}
            Ok(()) = leader.changed() => {}
            () = sleep_until(wake) => {}
        }
        let begun = Instant::now();
        wake = keeper.look().await.min(Instant::now() + GLANCE);
        // Answers that come meanwhile wait, so that a burst is one look, however large the mesh is.
        sleep_until(begun + GAP.max(keeper.cost * 4)).await;
    }
}

struct Keeper {
    sources: Sources,
    started: Instant,
    /// What the last look took to compute.
    cost: Duration,
    concerns: Option<(u64, Concerns)>,
    plan: Option<Plan>,
}

/// A status that is to be written.
struct Wanted {
    object: ObjectRef,
    uid: String,
    status: Status,
    /// It says for the first time that proxies refuse the object, and this is what they say.
    refusal: Option<String>,
    is_wording: bool,
}

impl Keeper {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Looks at everything once; says when to look again if nothing happens.
    async fn look(&mut self) -> Instant {
        let asleep = Instant::now() + GLANCE;
        let Some(turn) = self.sources.turns.borrow_and_update().clone() else { return asleep };
        let begun = Instant::now();
        let tallies = tokio::task::block_in_place(|| self.count(&turn));
        self.cost = begun.elapsed();
        let leads = *self.sources.leader.borrow_and_update() == Leader::Me;
        if !leads {
            self.plan = None;
            self.sources.metrics.waiting.set(0);
            return asleep;
        }
        let now = self.now();
        let plan = self.plan.take().unwrap_or_else(|| Plan::new(now));
        let (plan, due, wake) = tokio::task::block_in_place(|| self.judge(plan, &turn, &tallies));
        self.plan = Some(plan);
        self.cost = begun.elapsed();
        let wake = self.write(due).await.map_or(wake, |again| again.min(wake));
        self.started + wake
    }

    /// The counts of this replica, for itself and for the one that leads.
    fn count(&mut self, turn: &Turn) -> Arc<Tallies> {
        if self.concerns.as_ref().is_none_or(|(number, _)| *number != turn.number) {
            self.concerns = Some((turn.number, Concerns::new(&turn.objects, &turn.snapshot)));
        }
        let answers = self.sources.proxies.answers();
        let tallies = self.concerns.as_ref().map(|(_, concerns)| concerns.tally(&answers));
        let tallies = Arc::new(tallies.unwrap_or_default());
        self.sources.own.send_if_modified(|own| {
            let changed = **own != *tallies;
            if changed {
                *own = Arc::clone(&tallies);
            }
            changed
        });
        tallies
    }

    /// What is to be written now, and when to look again for the rest.
    fn judge(&mut self, mut plan: Plan, turn: &Turn, tallies: &Tallies) -> (Plan, Vec<Wanted>, Duration) {
        let now = self.now();
        let time = time(&self.sources.clock);
        let others = self.sources.others.borrow_and_update().clone();
        let mut found: HashMap<&ObjectRef, Vec<&Finding>> = HashMap::new();
        for finding in turn.findings.iter() {
            found.entry(&finding.object).or_default().push(finding);
        }
        plan.keep(|object| turn.objects.contains_key(object));
        let (mut due, mut wake, mut later) = (Vec::new(), now + GLANCE, 0);
        for (object, known) in turn.objects.iter() {
            let Some(tally) = tallies.get(object) else { continue };
            let tally = summed(tally, object, &others);
            let (overdue, until) = plan.overdue(object, &tally, now);
            wake = until.map_or(wake, |until| until.min(wake));
            let present = plan.present(object, known.status.as_ref(), now).cloned();
            let facts = Facts {
                object,
                generation: known.generation,
                findings: found.get(object).map_or(&[][..], Vec::as_slice),
                tally: &tally,
                overdue,
                present: present.as_ref(),
                now: &time,
            };
            let status = conditions::status(&facts);
            match plan.due(object, &status, present.as_ref(), now) {
                Due::Now => due.push(Wanted::new(object, &known.uid, status, present.as_ref())),
                Due::At(at) => {
                    later += 1;
                    wake = wake.min(at);
                }
                Due::Never => {}
            }
        }
        self.sources.metrics.waiting.set(i64::try_from(due.len() + later).unwrap_or(i64::MAX));
        due.sort_by_key(|wanted| wanted.is_wording);
        (plan, due, wake)
    }

    /// Writes as much as the budget allows; says when to go on if that is not all.
    async fn write(&mut self, due: Vec<Wanted>) -> Option<Duration> {
        let now = self.now();
        let Some(plan) = &mut self.plan else { return None };
        let (budget, next) = plan.budget(now);
        let total = due.len();
        let client = &self.sources.client;
        let mut writes = stream::iter(due.into_iter().take(budget))
            .map(|wanted| async move {
                let result = write(client, &wanted.object, &wanted.uid, &wanted.status).await;
                (wanted, result)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((wanted, result)) = writes.next().await {
            plan.spent();
            match result {
                Ok(()) => {
                    self.sources.metrics.writes.inc();
                    debug!(object = %wanted.object, "status written");
                    if let Some(words) = &wanted.refusal {
                        report::refused(client, &wanted.object, &wanted.uid, words).await;
                    }
                    plan.written(&wanted.object, wanted.status, now);
                }
                Err(error @ WriteError::Gone { .. }) => debug!(%error, "no status written"),
                Err(error) => {
                    self.sources.metrics.failures.inc();
                    let cause =
                        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    warn!(%error, cause, "will try again");
                    plan.failed(&wanted.object, now);
                    // Those that were not tried are still due; the API server may need a moment.
                    return Some(now + GAP * 10);
                }
            }
        }
        (total > budget).then_some(next)
    }
}

impl Wanted {
    fn new(object: &ObjectRef, uid: &str, status: Status, present: Option<&Status>) -> Self {
        let refusal = |status: &Status| {
            let programmed = conditions::of(status, PROGRAMMED).filter(|it| it.reason == REFUSED);
            programmed.map(|it| it.message.clone())
        };
        let is_new = present.and_then(refusal).is_none();
        Self {
            object: object.clone(),
            uid: uid.to_owned(),
            refusal: refusal(&status).filter(|_| is_new),
            is_wording: present.is_some_and(|present| conditions::is_same_but_words(present, &status)),
            status,
        }
    }
}

/// The count of all replicas.
fn summed(own: &Tally, object: &ObjectRef, others: &BTreeMap<String, Tallies>) -> Tally {
    let mut sum = own.clone();
    for other in others.values().filter_map(|tallies| tallies.get(object)) {
        sum.add(other);
    }
    sum
}

/// To the second: that is what conditions can say.
fn time(clock: &Clock) -> Time {
    Time(Timestamp::from_second(clock.now().unix_timestamp()).unwrap_or_default())
}
