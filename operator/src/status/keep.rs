//! The loop that keeps statuses true: counts acknowledgements on every replica, and writes on the one that leads.
//!
//! Started by `runtime`. Woken by what was published, by proxies that answer, by other replicas' counts and by the
//! lease; takes in what differs then, at the cost of that, and writes what `judge` finds due.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::Client;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use smidge_xds::server::{AckWatcher, Proxies};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, warn};

use super::{
    judge::{Observed, Others, Reconciler, StatusUpdate},
    programmed::{AckCounts, AckTracker},
    write::{WriteError, write},
};
use crate::{clock::Clock, lease::Leader, publish::Published, report};

/// How long to wait before a look: what woke it reaches the proxies first, and those who answer one after another are
/// counted together.
const GAP: Duration = Duration::from_millis(100);
/// Writes under way at once.
const AT_ONCE: usize = 4;
/// The longest sleep.
const GLANCE: Duration = Duration::from_mins(1);

/// What the loop is fed with.
pub struct Sources {
    /// What was published.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// Who is connected here.
    pub proxies: Proxies,
    /// The counts of other replicas, by replica; empty where this one does not lead.
    pub others: watch::Receiver<Arc<Others>>,
    /// Whether this replica leads.
    pub leader: watch::Receiver<Leader>,
    /// The counts of this one go here.
    pub own: watch::Sender<AckCounts>,
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
            "Status writes that failed and are retried",
            metrics.failures.clone(),
        );
        registry.register("status_writes_pending", "Pending status writes", metrics.waiting.clone());
        metrics
    }
}

/// Keeps statuses true until the publisher ends.
pub async fn keep(sources: Sources) {
    let answers = sources.proxies.follow();
    let mut keeper = StatusLoop {
        started: Instant::now(),
        cost: Duration::ZERO,
        concerns: AckTracker::default(),
        judge: None,
        answers,
        sources,
    };
    let mut wake = Instant::now() + GLANCE;
    loop {
        let Sources { published, others, leader, .. } = &mut keeper.sources;
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            () = keeper.answers.changed() => {}
            Ok(()) = others.changed() => {}
            Ok(()) = leader.changed() => {}
            () = sleep_until(wake) => {}
        }
        // After a look that was long it is longer, so that a burst is one look, however large the mesh is.
        sleep(GAP.max(keeper.cost * 4)).await;
        wake = keeper.look().await.min(Instant::now() + GLANCE);
    }
}

struct StatusLoop {
    sources: Sources,
    answers: AckWatcher,
    started: Instant,
    /// What the last look took to compute.
    cost: Duration,
    concerns: AckTracker,
    judge: Option<Reconciler>,
}

impl StatusLoop {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes in what differs once; says when to look again if nothing happens.
    async fn look(&mut self) -> Instant {
        let asleep = Instant::now() + GLANCE;
        let Some(published) = self.sources.published.borrow_and_update().clone() else { return asleep };
        let begun = Instant::now();
        let tallies = tokio::task::block_in_place(|| self.count(&published));
        self.cost = begun.elapsed();
        let leads = *self.sources.leader.borrow_and_update() == Leader::Me;
        if !leads {
            self.judge = None;
            self.sources.metrics.waiting.set(0);
            return asleep;
        }
        let due = tokio::task::block_in_place(|| self.judge(&published, &tallies));
        self.cost = begun.elapsed();
        let wake = self.write(due).await;
        wake.map_or(asleep, |wake| self.started + wake)
    }

    /// The counts of this replica, for itself and for the one that leads.
    fn count(&mut self, published: &Published) -> AckCounts {
        self.concerns.publish(&published.objects, &published.snapshot);
        for (proxy, answer) in self.answers.take() {
            self.concerns.answer(proxy, answer);
        }
        let tallies = self.concerns.tallies().clone();
        self.sources.own.send_if_modified(|own| {
            let changed = !own.ptr_eq(&tallies);
            if changed {
                *own = tallies.clone();
            }
            changed
        });
        tallies
    }

    /// What is to be written now.
    fn judge(&mut self, published: &Published, tallies: &AckCounts) -> Vec<StatusUpdate> {
        let now = self.now();
        let others = self.sources.others.borrow_and_update().clone();
        let judge = self.judge.get_or_insert_with(|| Reconciler::new(now));
        let Published { objects, findings, .. } = published;
        let evidence = Observed { objects, findings, tallies, others: &others };
        judge.judge(evidence, now, &time(&self.sources.clock))
    }

    /// Writes as much as the budget allows; says when to look again.
    async fn write(&mut self, due: Vec<StatusUpdate>) -> Option<Duration> {
        let now = self.now();
        let judge = self.judge.as_mut()?;
        let (budget, mut again) = judge.budget(now);
        let mut is_left = due.len() > budget;
        let Sources { client, metrics, .. } = &self.sources;
        let mut writes = stream::iter(due.into_iter().take(budget))
            .map(|wanted| async move {
                let result = write(client, &wanted.object, &wanted.uid, &wanted.status).await;
                (wanted, result)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((wanted, result)) = writes.next().await {
            match result {
                Ok(()) => {
                    metrics.writes.inc();
                    debug!(object = %wanted.object, "status written");
                    if let Some(words) = &wanted.refusal {
                        report::refused(client, &wanted.object, &wanted.uid, words).await;
                    }
                    judge.written(&wanted.object, wanted.status, now);
                }
                Err(error @ WriteError::Gone { .. }) => {
                    debug!(%error, "failed to write status");
                    judge.gone(&wanted.object, now);
                }
                Err(error) => {
                    metrics.failures.inc();
                    let cause =
                        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    warn!(%error, cause, "failed to write status, retrying");
                    judge.failed(&wanted.object, now);
                    // Those that were not tried are still due; the API server may need a moment.
                    (is_left, again) = (true, now + GAP * 10);
                    break;
                }
            }
        }
        metrics.waiting.set(i64::try_from(judge.waiting()).unwrap_or(i64::MAX));
        judge.next().into_iter().chain(Some(again).filter(|_| is_left)).min()
    }
}

/// To the second: that is what conditions can say.
fn time(clock: &Clock) -> Time {
    Time(Timestamp::from_second(clock.now().unix_timestamp()).unwrap_or_default())
}
