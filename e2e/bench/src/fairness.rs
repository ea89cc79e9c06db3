//! Fairness: the latency of a change while other proxies misbehave, reconnect in thousands, or receive many changes at
//! the same time.
//!
//! Called by `scenario`; `hostile` measures the same change. The proxies that are measured are those of `bench.fleet`;
//! the others are in a thread of their own, so that they cost the measured ones no more than a share of the machine. A
//! change is an endpoint that ten of them see.

mod misbehaving;

use std::{
    ops::Range,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};

use crate::{
    behaviour::Behaviour,
    bench::{Bench, Change, QUIET, ready},
    cluster::Cluster,
    costs::Costs,
    figures::{Row, Times},
    fleet::{Fleet, Totals},
    results::Results,
    scenario::{ProxyCounts, mb},
    shape::{SLICE, Shape},
};
use misbehaving::Misbehaving;

/// Time limit of each wait.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Number of proxies of each misbehaviour.
const MISFITS: usize = 50;
/// Maximum number of concurrent changes of a burst: enough to keep the API server busy.
const WRITES: usize = 48;

/// Measures all of it, with all remaining pods as other proxies.
pub async fn all(bench: &mut Bench, proxy_counts: ProxyCounts, results: &mut Results) -> anyhow::Result<()> {
    let slots = proxy_counts.usual.max(proxy_counts.few).max(proxy_counts.many);
    let usual = proxy_counts.usual.min(slots / 2);
    bench.fleet.disconnect(true).await?;
    bench.restart().await?;
    bench.settle().await?;
    bench.connect(usual).await?;
    bench.settle().await?;
    let mut marker = Marker::new(bench, usual).await?;
    alone(bench, &mut marker, results).await?;
    misbehave(bench, &mut marker, usual..slots, results).await?;
    storms(bench, &mut marker, usual..slots, results).await?;
    burst(bench, &mut marker, results).await?;
    marker.restore(bench).await
}

/// Change that is measured.
pub struct Marker {
    service: usize,
    change: Change,
    /// Number of measured proxies, whether they see the change or not.
    usual: usize,
    made: usize,
}

impl Marker {
    pub async fn new(bench: &Bench, usual: usize) -> anyhow::Result<Self> {
        let shape = bench.settings.shape;
        let service = shape.cold_plain();
        let change = bench.readiness(service, shape.receivers(service, usual)).await?;
        Ok(Self { service, change, usual, made: 0 })
    }

    /// Makes one change; returns the time until the last receiver had it, in milliseconds.
    async fn change(&mut self, bench: &Bench) -> anyhow::Result<f64> {
        let last = bench.once(&mut self.change, self.made).await?;
        self.made += 1;
        tokio::time::sleep(QUIET).await;
        Ok(last)
    }

    /// Makes changes until `done`, which is called after each one, returns true; makes at least one.
    pub async fn until(
        &mut self,
        bench: &Bench,
        mut done: impl FnMut(usize) -> bool,
    ) -> anyhow::Result<Times> {
        let mut times = Times::default();
        while times.made() == 0 || !done(times.made()) {
            times.add(self.change(bench).await?);
        }
        Ok(times)
    }

    pub async fn restore(&mut self, bench: &Bench) -> anyhow::Result<()> {
        if self.made % 2 == 1 {
            self.change(bench).await?;
        }
        Ok(())
    }

    /// Builds a row of the times.
    pub fn row(&self, id: &str, condition: &str, times: &Times) -> Row {
        let Self { change: Change { receivers, .. }, usual, .. } = self;
        let what = format!("endpoint change → the last of {receivers} (of {usual}){condition}");
        let mut row = Row::new(id, &what);
        row.set("made", times.made() as f64);
        times.set(&mut row);
        eprintln!(
            "    {what}: p50 {:.1} ms, p99 {:.1} ms, of {}",
            row.get("last_p50_ms").unwrap_or_default(),
            row.get("last_p99_ms").unwrap_or_default(),
            times.made()
        );
        row
    }
}

/// Sets the total cost of a measurement.
fn cost(row: &mut Row, before: &Costs, after: &Costs) {
    after.set(row, before, 1.0);
    row.set("before_mb", mb(before.memory.resident));
    row.set("then_mb", mb(after.memory.resident));
    row.set("took_s", after.at.duration_since(before.at).as_secs_f64());
    row.set("publishes", after.publishes - before.publishes);
    eprintln!("    {:?}", row.figures);
}

async fn alone(bench: &Bench, marker: &mut Marker, results: &mut Results) -> anyhow::Result<()> {
    eprintln!("==> fairness: alone");
    marker.until(bench, |made| made >= 6).await?;
    let times = marker.until(bench, |made| made >= bench.settings.changes).await?;
    results.add(marker.row("fair-alone", ", alone", &times))
}

/// Measures beside proxies of every misbehaviour, some of which receive the change.
async fn misbehave(
    bench: &Bench,
    marker: &mut Marker,
    slots: Range<usize>,
    results: &mut Results,
) -> anyhow::Result<()> {
    let chosen = misbehaving::choose(bench.settings.shape, marker.service, slots, MISFITS);
    let (each, receivers) =
        chosen.first().map_or((0, 0), |misbehaving| (misbehaving.slots.len(), misbehaving.receivers));
    eprintln!("==> fairness: {each} proxies of each bad behaviour, {receivers} of each receive the change");
    let mut proxies = Vec::new();
    for misbehaving in &chosen {
        let fleet = bench.fleet.beside(&misbehaving.slots, misbehaving.behaviour)?;
        fleet.connect(&bench.target, misbehaving.slots.len(), TIMEOUT).await?;
        proxies.push((misbehaving, fleet));
    }
    bench.settle().await?;
    let counters = ["smidge_xds_nacks_total", "smidge_xds_streams_throttled_total"];
    let (refused, sent, before) =
        (bench.operator.counters(&counters)?, totals(&proxies).await?, bench.before().await?);
    let times = marker.until(bench, |made| made >= bench.settings.changes).await?;
    let (after, now) = (bench.after().await?, bench.operator.counters(&counters)?);
    let grown: Vec<f64> = now.iter().zip(&refused).map(|(now, then)| now - then).collect();
    results.add(marker.row("fair-misbehaving", &format!(", beside {each} of each behaviour"), &times))?;
    let mut row = Row::new(
        "fair-misbehaving-cost",
        &format!(
            "{each} proxies that read nothing, {each} that never answer, {each} that refuse everything, {each} that refuse \
             and ask again, {receivers} of each receive every change"
        ),
    );
    row.set("nacks", grown.first().copied().unwrap_or_default());
    row.set("throttled", grown.last().copied().unwrap_or_default());
    cost(&mut row, &before, &after);
    let reached = misbehaved(&proxies, &sent, &row, times.made()).await;
    for (_, fleet) in proxies {
        fleet.disconnect(true).await?;
    }
    results.add(row)?;
    reached?;
    left(bench, marker.usual).await
}

async fn totals(proxies: &[(&Misbehaving, Fleet)]) -> anyhow::Result<Vec<Totals>> {
    let mut all = Vec::new();
    for (_, fleet) in proxies {
        all.push(fleet.totals().await?);
    }
    Ok(all)
}

/// Checks that proxies of each misbehaviour received something, so that no figure without them counts as one with them.
async fn misbehaved(
    proxies: &[(&Misbehaving, Fleet)],
    before: &[Totals],
    row: &Row,
    made: usize,
) -> anyhow::Result<()> {
    for (((misbehaving, _), now), then) in proxies.iter().zip(totals(proxies).await?).zip(before) {
        let Misbehaving { behaviour, receivers, .. } = misbehaving;
        let has_come = match behaviour {
            Behaviour::Deaf => now.unread > then.unread,
            _ => now.messages > then.messages,
        };
        anyhow::ensure!(has_come || *receivers == 0, "those that are {behaviour:?} received nothing");
        let nacks = row.get("nacks").unwrap_or_default();
        // Every other change restores what the proxies have, so that nothing is sent.
        let least = receivers * (made / 2);
        anyhow::ensure!(
            *behaviour != Behaviour::Refusing || nacks >= least as f64,
            "{nacks} refusals after {made} changes that {receivers} that are {behaviour:?} received"
        );
    }
    Ok(())
}

/// Connects all remaining proxies concurrently: first as new ones, and then again with the resources that they hold.
async fn storms(
    bench: &Bench,
    marker: &mut Marker,
    slots: Range<usize>,
    results: &mut Results,
) -> anyhow::Result<()> {
    let count = slots.len();
    let mut proxies = bench.fleet.beside(&slots.collect::<Vec<_>>(), Behaviour::Honest)?;
    for (id, condition) in [("storm", "come for the first time"), ("again", "come again")] {
        eprintln!("==> fairness: {count} proxies {condition}, at once");
        let (before, target, progress) = (bench.before().await?, bench.target.clone(), proxies.progress());
        let storm = tokio::spawn(async move {
            let connected = proxies.connect(&target, count, TIMEOUT).await;
            connected.map(|connected| (proxies, connected))
        });
        // The last tenth is no longer a storm: changes during it would make the other times look better.
        let most = count - count / 10;
        let is_over = |_| storm.is_finished() || progress.load(Ordering::Relaxed) >= most;
        let times = marker.until(bench, is_over).await?;
        let connected;
        (proxies, connected) = storm.await??;
        let after = bench.after().await?;
        results.add(marker.row(&format!("fair-{id}"), &format!(", while {count} {condition}"), &times))?;
        let mut row = Row::new(&format!("fair-{id}-cost"), &format!("{count} proxies {condition}, at once"));
        row.quantiles("configured", &connected.times());
        row.set("retries", connected.retries as f64);
        cost(&mut row, &before, &after);
        results.add(row)?;
        proxies.disconnect(false).await?;
        left(bench, marker.usual).await?;
    }
    Ok(())
}

/// Waits until no more than `usual` proxies are connected.
async fn left(bench: &Bench, usual: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    while bench.operator.counter("smidge_xds_streams")? > usual as f64 {
        anyhow::ensure!(started.elapsed() < TIMEOUT, "streams do not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Changes every endpoint of every other Service.
async fn burst(bench: &Bench, marker: &mut Marker, results: &mut Results) -> anyhow::Result<()> {
    let Shape { services, pods } = bench.settings.shape;
    let count = (services - 1) * pods;
    eprintln!("==> fairness: {count} endpoints change at once");
    let before = bench.before().await?;
    let burst = tokio::spawn(change_all(bench.cluster.clone(), bench.settings.shape, false));
    let times = marker.until(bench, |_| burst.is_finished()).await?;
    let made = burst.await??;
    let behind = marker.change(bench).await?;
    let after = bench.after().await?;
    results.add(marker.row("fair-burst", &format!(", while {count} endpoints change"), &times))?;
    let what = format!("{count} endpoints change at once, {} proxies", marker.usual);
    let mut row = Row::new("fair-burst-cost", &what);
    row.set("made", made as f64);
    if behind >= 0.0 {
        row.set("behind_ms", behind);
    }
    cost(&mut row, &before, &after);
    results.add(row)?;
    change_all(bench.cluster.clone(), bench.settings.shape, true).await?;
    marker.change(bench).await?;
    Ok(())
}

/// Sets all endpoints but the marker's ready or not, one in each write, as the API server's own controller would. Each
/// of them must have had the opposite value: a write that changes nothing causes no event and no work.
async fn change_all(cluster: Cluster, shape: Shape, is_ready: bool) -> anyhow::Result<usize> {
    let others = move |service: &usize| *service != shape.cold_plain();
    let all =
        (0..shape.pods).flat_map(|pod| (0..shape.services).filter(others).map(move |service| (service, pod)));
    let writes = stream::iter(all.collect::<Vec<_>>()).map(|(service, pod)| {
        let cluster = cluster.clone();
        async move {
            let (slice, endpoint) = (pod / SLICE, pod % SLICE);
            let path = cluster.path("EndpointSlice", &Shape::namespace(service))?;
            let path = format!("{path}/{}-{}", Shape::name(service), slice * SLICE);
            cluster.call(hyper::Method::PATCH, &path, Some(&ready(endpoint, is_ready))).await
        }
    });
    let mut writes = writes.buffer_unordered(WRITES);
    let mut made = 0;
    while let Some(write) = writes.next().await {
        write?;
        made += 1;
    }
    Ok(made)
}
