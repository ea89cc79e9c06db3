//! Fairness: what a change takes while others misbehave, come back in thousands, or change everything at once.
//!
//! Called by `main`. The proxies that are measured are those of `bench.fleet`; the others are in a thread of their own, so
//! that they cost the measured ones no more than a share of the machine. A change is an endpoint that ten of them see.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    cluster::{Cluster, Watched},
    figures::{Row, in_millis, millis},
    manner::Manner,
    process,
    scenario::Crowds,
    shape::{SLICE, Shape},
    wire::Kind,
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two changes.
const QUIET: Duration = Duration::from_millis(40);
/// Proxies of each manner.
const MISFITS: usize = 50;
/// Changes of a burst that are under way at once: as many as keep the API server busy.
const WRITES: usize = 48;

/// All of it, with as many others as there are pods left.
pub async fn all(bench: &mut Bench, crowds: Crowds) -> anyhow::Result<Vec<Row>> {
    let seats = crowds.usual.max(crowds.few).max(crowds.many);
    let usual = crowds.usual.min(seats / 2);
    bench.fleet.disconnect(true).await?;
    bench.restart().await?;
    bench.connect(usual).await?;
    let mut marker = Marker::new(bench, usual).await?;
    let mut rows = Vec::new();
    alone(bench, &mut marker, &mut rows).await?;
    misfits(bench, &mut marker, usual, seats, &mut rows).await?;
    storms(bench, &mut marker, usual..seats, &mut rows).await?;
    burst(bench, &mut marker, usual, &mut rows).await?;
    marker.restore(bench).await?;
    Ok(rows)
}

/// The change that is measured.
struct Marker {
    watched: Watched,
    carrier: String,
    receivers: usize,
    made: usize,
}

impl Marker {
    async fn new(bench: &Bench, usual: usize) -> anyhow::Result<Self> {
        let shape = bench.settings.shape;
        let service = shape.cold_plain();
        let (namespace, name) = (Shape::namespace(service), Shape::name(service));
        let watched = bench.cluster.watch("EndpointSlice", &namespace, &format!("{name}-0")).await?;
        let receivers = shape.receivers(service, usual);
        Ok(Self { watched, carrier: format!("{namespace}/{name}/80"), receivers, made: 0 })
    }

    /// Makes one change; the answer is what it took until the last one had it, in milliseconds.
    async fn change(&mut self, bench: &Bench) -> anyhow::Result<f64> {
        let answer = bench.fleet.expect(Kind::Endpoints, &self.carrier, self.receivers)?;
        let is_ready = self.made % 2 == 1;
        self.made += 1;
        let from = self.watched.change(&readiness(0, is_ready)).await?;
        let times = tokio::time::timeout(PATIENCE, answer).await.context("a change did not arrive")??;
        tokio::time::sleep(QUIET).await;
        Ok(millis(from, times.last().copied().unwrap_or(from)))
    }

    /// Changes until `done`, which is asked after each one, and at least once.
    async fn until(
        &mut self,
        bench: &Bench,
        mut done: impl FnMut(usize) -> bool,
    ) -> anyhow::Result<Vec<f64>> {
        let mut times = vec![self.change(bench).await?];
        while !done(times.len()) {
            times.push(self.change(bench).await?);
        }
        Ok(times)
    }

    async fn restore(&mut self, bench: &Bench) -> anyhow::Result<()> {
        if self.made % 2 == 1 {
            self.change(bench).await?;
        }
        Ok(())
    }

    fn row(&self, id: &str, condition: &str, usual: usize, times: &[f64]) -> Row {
        let what = format!("endpoint change → the last of {} (of {usual}){condition}", self.receivers);
        let mut row = Row::new(&format!("fair-{id}"), &what);
        row.quantiles("last", times);
        row.set("made", times.len() as f64);
        eprintln!(
            "    {what}: p50 {:.1} ms, p99 {:.1} ms, of {}",
            row.get("last_p50_ms").unwrap_or_default(),
            row.get("last_p99_ms").unwrap_or_default(),
            times.len()
        );
        row
    }
}

fn readiness(endpoint: usize, is_ready: bool) -> Value {
    json!([{"op": "replace", "path": format!("/endpoints/{endpoint}/conditions/ready"), "value": is_ready}])
}

/// What the operator has used and done so far.
struct Mark {
    at: Instant,
    memory: u64,
    cpu: Duration,
    publishes: f64,
    woken: f64,
}

impl Mark {
    fn now(bench: &Bench) -> anyhow::Result<Self> {
        let operator = &bench.operator;
        Ok(Self {
            at: Instant::now(),
            memory: process::memory(operator.pid()).resident,
            cpu: operator.cpu(),
            publishes: operator.counter("smidge_publishes_total")?,
            woken: operator.counter("smidge_xds_streams_woken_total")?,
        })
    }

    /// Sets what has come since.
    fn set(&self, row: &mut Row, bench: &Bench) -> anyhow::Result<()> {
        let now = Self::now(bench)?;
        row.set("before_mb", self.memory as f64 / 1e6);
        row.set("then_mb", now.memory as f64 / 1e6);
        row.set("took_s", now.at.duration_since(self.at).as_secs_f64());
        row.set("cpu_ms", in_millis(now.cpu.saturating_sub(self.cpu)));
        row.set("publishes", now.publishes - self.publishes);
        row.set("streams_woken", now.woken - self.woken);
        eprintln!("    {:?}", row.figures);
        Ok(())
    }
}

async fn alone(bench: &Bench, marker: &mut Marker, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    eprintln!("==> fairness: nobody else");
    let usual = bench.fleet.totals().await?.open as usize;
    marker.until(bench, |made| made >= 6).await?;
    let times = marker.until(bench, |made| made >= bench.settings.changes).await?;
    rows.push(marker.row("alone", ", alone", usual, &times));
    Ok(())
}

/// Proxies of every manner, among them those that see the change.
async fn misfits(
    bench: &Bench,
    marker: &mut Marker,
    usual: usize,
    seats: usize,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let manners = [Manner::Deaf, Manner::Mute, Manner::Refusing, Manner::Insisting];
    let each = MISFITS.min((seats - usual) / manners.len());
    eprintln!("==> fairness: {each} proxies that are {manners:?}");
    let mark = Mark::now(bench)?;
    let mut crowd = Vec::new();
    for (number, manner) in manners.into_iter().enumerate() {
        let from = usual + number * each;
        let fleet = bench.fleet.beside(from..from + each, manner)?;
        fleet.connect(&bench.target, each, PATIENCE).await?;
        crowd.push(fleet);
    }
    let times = marker.until(bench, |made| made >= bench.settings.changes).await?;
    rows.push(marker.row("misfits", &format!(", beside {each} of each manner"), usual, &times));
    let mut row = Row::new(
        "fair-misfits-cost",
        &format!(
            "{each} proxies that read nothing, {each} that never answer, {each} that refuse everything, {each} that refuse and ask again"
        ),
    );
    mark.set(&mut row, bench)?;
    row.set("nacks", bench.operator.counter("smidge_xds_nacks_total")?);
    row.set("hushed", bench.operator.counter("smidge_xds_streams_hushed_total")?);
    for fleet in crowd {
        fleet.disconnect(true).await?;
    }
    rows.push(row);
    left(bench, usual).await
}

/// Everybody who is left comes at once: for the first time, and again with what they have.
async fn storms(
    bench: &Bench,
    marker: &mut Marker,
    seats: std::ops::Range<usize>,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let (usual, count) = (seats.start, seats.len());
    let mut crowd = bench.fleet.beside(seats, Manner::Honest)?;
    for (id, condition) in [("storm", "come for the first time"), ("again", "come again")] {
        eprintln!("==> fairness: {count} proxies {condition}, at once");
        let mark = Mark::now(bench)?;
        let target = bench.target.clone();
        let storm = tokio::spawn(async move {
            let connected = crowd.connect(&target, count, PATIENCE).await;
            connected.map(|connected| (crowd, connected))
        });
        let times = marker.until(bench, |_| storm.is_finished()).await?;
        let connected;
        (crowd, connected) = storm.await??;
        rows.push(marker.row(id, &format!(", while {count} {condition}"), usual, &times));
        let mut row = Row::new(&format!("fair-{id}-cost"), &format!("{count} proxies {condition}, at once"));
        let configured = connected.configured.iter().map(|at| millis(connected.started, *at));
        row.quantiles("configured", &configured.collect::<Vec<_>>());
        row.set("retries", connected.retries as f64);
        mark.set(&mut row, bench)?;
        rows.push(row);
        crowd.disconnect(false).await?;
        left(bench, usual).await?;
    }
    Ok(())
}

/// Waits until nobody is connected but so many.
async fn left(bench: &Bench, usual: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    while bench.operator.counter("smidge_xds_streams")? > usual as f64 {
        anyhow::ensure!(started.elapsed() < PATIENCE, "streams do not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Every endpoint of every other Service changes.
async fn burst(bench: &Bench, marker: &mut Marker, usual: usize, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let Shape { services, pods } = bench.settings.shape;
    let count = (services - 1) * pods;
    eprintln!("==> fairness: {count} endpoints change at once");
    let mark = Mark::now(bench)?;
    let storm = tokio::spawn(change_all(bench.cluster.clone(), bench.settings.shape, false));
    let times = marker.until(bench, |_| storm.is_finished()).await?;
    let made = storm.await??;
    let behind = marker.change(bench).await?;
    rows.push(marker.row("burst", &format!(", while {count} endpoints change"), usual, &times));
    let mut row = Row::new("fair-burst-cost", &format!("{count} endpoints change at once, {usual} proxies"));
    row.set("made", made as f64);
    row.set("behind_ms", behind);
    mark.set(&mut row, bench)?;
    rows.push(row);
    change_all(bench.cluster.clone(), bench.settings.shape, true).await?;
    marker.change(bench).await?;
    Ok(())
}

/// Makes all endpoints but the marker's ready or not, one for each write, as the API server's own controller would.
async fn change_all(cluster: Cluster, shape: Shape, is_ready: bool) -> anyhow::Result<usize> {
    let others = move |service: &usize| *service != shape.cold_plain();
    let all =
        (0..shape.pods).flat_map(|pod| (0..shape.services).filter(others).map(move |service| (service, pod)));
    let writes = stream::iter(all.collect::<Vec<_>>()).map(|(service, pod)| {
        let cluster = cluster.clone();
        async move {
            let (slice, endpoint) = (pod / SLICE, pod % SLICE);
            let path = cluster.path("EndpointSlice", &Shape::namespace(service))?;
            let path = format!("{path}/{}-{slice}", Shape::name(service));
            cluster.call(hyper::Method::PATCH, &path, Some(&readiness(endpoint, is_ready))).await
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
