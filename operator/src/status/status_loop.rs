//! The loop that keeps statuses up to date: counts acknowledgements on every replica, and writes on the one that leads.
//!
//! Started by `runtime`. Woken by publications, by answers of proxies, by other replicas' counts and by the lease; each
//! pass of the loop updates the counts, at the cost of the difference, and writes the statuses that `judge` returns.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
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
    write::{StatusWriter, WriteError},
};
use crate::{clock::Clock, lease::Leader, publish::Published};

/// Delay before a pass: the change that woke the loop reaches the proxies first, and proxies that answer one after
/// another are counted together.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of concurrent writes.
const AT_ONCE: usize = 4;
/// Maximum time between two passes.
const MAX_SLEEP: Duration = Duration::from_mins(1);

/// Inputs and outputs of the loop.
pub struct Sources<W> {
    /// The last publication.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// The proxies that are connected to this replica.
    pub proxies: Proxies,
    /// Counts of other replicas, by replica; empty while this one does not lead.
    pub others: watch::Receiver<Arc<Others>>,
    /// The present leader.
    pub leader: watch::Receiver<Leader>,
    /// Receives the counts of this replica.
    pub own: watch::Sender<AckCounts>,
    /// Place where statuses are written.
    pub writer: W,
    /// Clock for the times of conditions.
    pub clock: Clock,
    /// Metrics of the loop.
    pub metrics: Metrics,
}

/// Metrics of writing statuses.
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

/// Keeps statuses up to date until the publisher ends.
pub async fn run(sources: Sources<impl StatusWriter>) {
    let answers = sources.proxies.follow();
    let mut keeper = StatusLoop {
        started: Instant::now(),
        cost: Duration::ZERO,
        concerns: AckTracker::default(),
        judge: None,
        answers,
        sources,
    };
    let mut wake = Instant::now() + MAX_SLEEP;
    loop {
        let Sources { published, others, leader, .. } = &mut keeper.sources;
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            () = keeper.answers.changed() => {}
            Ok(()) = others.changed() => {}
            Ok(()) = leader.changed() => {}
            () = sleep_until(wake) => {}
        }
        // The delay grows with the time of the last pass, so that a burst costs one pass, however large the mesh is.
        sleep(MIN_INTERVAL.max(keeper.cost * 4)).await;
        wake = keeper.reconcile().await.min(Instant::now() + MAX_SLEEP);
    }
}

struct StatusLoop<W> {
    sources: Sources<W>,
    answers: AckWatcher,
    started: Instant,
    /// Computing time of the last pass.
    cost: Duration,
    concerns: AckTracker,
    judge: Option<Reconciler>,
}

impl<W: StatusWriter> StatusLoop<W> {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Runs one pass; returns the time of the next one if nothing happens.
    async fn reconcile(&mut self) -> Instant {
        let asleep = Instant::now() + MAX_SLEEP;
        let Some(published) = self.sources.published.borrow_and_update().clone() else { return asleep };
        let begun = Instant::now();
        let counts = tokio::task::block_in_place(|| self.count(&published));
        self.cost = begun.elapsed();
        let leads = *self.sources.leader.borrow_and_update() == Leader::Me;
        if !leads {
            self.judge = None;
            self.sources.metrics.waiting.set(0);
            return asleep;
        }
        let due = tokio::task::block_in_place(|| self.judge(&published, &counts));
        self.cost = begun.elapsed();
        let wake = self.write(due).await;
        wake.map_or(asleep, |wake| self.started + wake)
    }

    /// Updates the counts of this replica, and sends them to `own` for the leader; returns them.
    fn count(&mut self, published: &Published) -> AckCounts {
        self.concerns.publish(&published.objects, &published.snapshot);
        for (proxy, answer) in self.answers.take() {
            self.concerns.answer(proxy, answer);
        }
        let counts = self.concerns.counts().clone();
        self.sources.own.send_if_modified(|own| {
            let changed = !own.ptr_eq(&counts);
            if changed {
                *own = counts.clone();
            }
            changed
        });
        counts
    }

    /// Returns the statuses to be written now.
    fn judge(&mut self, published: &Published, counts: &AckCounts) -> Vec<StatusUpdate> {
        let now = self.now();
        let others = self.sources.others.borrow_and_update().clone();
        let judge = self.judge.get_or_insert_with(|| Reconciler::new(now));
        let Published { objects, findings, .. } = published;
        let evidence = Observed { objects, findings, counts, others: &others };
        judge.judge(evidence, now, &time(&self.sources.clock))
    }

    /// Writes as many statuses as the budget allows; returns the time of the next pass.
    async fn write(&mut self, due: Vec<StatusUpdate>) -> Option<Duration> {
        let now = self.now();
        let judge = self.judge.as_mut()?;
        let (budget, mut again) = judge.budget(now);
        let mut is_left = due.len() > budget;
        let Sources { writer, metrics, .. } = &self.sources;
        let mut writes = stream::iter(due.into_iter().take(budget))
            .map(|wanted| async move {
                let result = writer.write(&wanted.object, &wanted.uid, &wanted.status).await;
                (wanted, result)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((wanted, result)) = writes.next().await {
            match result {
                Ok(()) => {
                    metrics.writes.inc();
                    debug!(object = %wanted.object, "status written");
                    if let Some(words) = &wanted.refusal {
                        writer.refused(&wanted.object, &wanted.uid, words).await;
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
                    // Those that were not tried are still due; the API server may need time to recover.
                    (is_left, again) = (true, now + MIN_INTERVAL * 10);
                    break;
                }
            }
        }
        metrics.waiting.set(i64::try_from(judge.waiting()).unwrap_or(i64::MAX));
        judge.next().into_iter().chain(Some(again).filter(|_| is_left)).min()
    }
}

/// Returns the time in whole seconds, which is the resolution of conditions.
fn time(clock: &Clock) -> Time {
    Time(Timestamp::from_second(clock.now().unix_timestamp()).unwrap_or_default())
}
