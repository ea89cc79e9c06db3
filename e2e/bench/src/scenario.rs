//! The scenarios, in the order in which one leads to the next.
//!
//! Called by `main`; each yields a row. What is measured is said here; how, in `bench` and `floor`.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    bench::{Bench, Change, Costs},
    cluster::Watched,
    figures::{Row, in_millis, millis, quantile},
    fleet::Connected,
    inject, process,
    shape::Shape,
    wire::Kind,
};

/// How many proxies there are in turn.
#[derive(Debug, Clone, Copy)]
pub struct Crowds {
    /// In most scenarios.
    pub usual: usize,
    /// Few enough for absolute times to say something.
    pub few: usize,
    /// As many as there may be; 0 leaves them out.
    pub many: usize,
}

/// Everything, in order.
pub async fn all(bench: &mut Bench, crowds: Crowds) -> anyhow::Result<Vec<Row>> {
    let mut rows = vec![cold_start(bench).await?, connect(bench, crowds.usual).await?];
    let usual = rows.len();
    rows.extend(changes(bench, crowds.usual, true).await?);
    rows.push(under_churn(bench, crowds.usual).await?);
    let few = rows.len();
    rows.push(reconnect(bench, crowds.usual).await?);
    rows.push(inject::measure(bench).await?);
    let from = rows.len();
    bench.fleet.disconnect(false).await?;
    bench.connect(crowds.few).await?;
    rows.extend(changes(bench, crowds.few, false).await?);
    let to = rows.len();
    if crowds.many > 0 {
        rows.push(many(bench, crowds.many).await?);
    }
    eprintln!("==> the floor");
    let (before, after) = rows.split_at_mut(from);
    floor(bench, crowds.usual, before.get_mut(usual - 1..few).unwrap_or_default()).await?;
    floor(bench, crowds.few, after.get_mut(..to - from).unwrap_or_default()).await?;
    Ok(rows)
}

/// From the start of the process until the first proxy has everything.
pub async fn cold_start(bench: &mut Bench) -> anyhow::Result<Row> {
    eprintln!("==> cold start");
    let mut row = Row::new(
        "cold-start",
        "cold start, all objects in the API server",
        "serving ≤ 2 s after the lists arrive",
    );
    let (mut whole, mut after) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        bench.fleet.disconnect(true).await?;
        bench.restart().await?;
        bench.connect(1).await?;
        let first = bench.operator.started.elapsed();
        let listed =
            bench.operator.said("every kind was read").context("the log does not say when all was read")?;
        whole.push(first.as_secs_f64());
        after.push(first.saturating_sub(listed).as_secs_f64());
    }
    row.set("start_to_first_proxy_s", quantile(&whole, 0.5));
    row.set("lists_to_first_proxy_s", quantile(&after, 0.5));
    let memory = process::memory(bench.operator.pid());
    row.set("peak_mib", mib(memory.peak));
    row.set("resident_mib", mib(memory.resident));
    row.set("pss_mib", mib(memory.proportional));
    Ok(row)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// All proxies come at once, new, and get certificates.
pub async fn connect(bench: &mut Bench, count: usize) -> anyhow::Result<Row> {
    eprintln!("==> {count} proxies connect");
    let mut row = Row::new(
        "connect",
        &format!("{count} new proxies connect at once, certificates included"),
        "all configured ≤ 2 s; ≤ 100 KB of memory each",
    );
    bench.fleet.disconnect(true).await?;
    // Nobody was ever there: what the operator has is the mesh alone.
    bench.restart().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    crowd(bench, &mut row, count).await?;
    Ok(row)
}

async fn crowd(bench: &mut Bench, row: &mut Row, count: usize) -> anyhow::Result<()> {
    let (empty, before) = (process::memory(bench.operator.pid()), bench.costs().await?);
    let connected = bench.connect(count).await?;
    configured(row, &connected);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (memory, after) = (process::memory(bench.operator.pid()), bench.costs().await?);
    row.set("proxies", count as f64);
    row.set("resident_mib", mib(memory.resident));
    row.set("peak_mib", mib(memory.peak));
    row.set("pss_mib", mib(memory.proportional));
    let grown = memory.resident.saturating_sub(empty.resident);
    row.set("kib_each", grown as f64 / 1024.0 / count as f64);
    spent(row, &before, &after);
    row.set("retries", connected.retries as f64);
    row.set("held_each", after.totals.held as f64 / count as f64);
    eprintln!("    {:?}", row.figures);
    Ok(())
}

fn configured(row: &mut Row, connected: &Connected) {
    let times: Vec<f64> = connected.configured.iter().map(|at| millis(connected.started, *at)).collect();
    row.quantiles("configured", &times);
}

fn spent(row: &mut Row, before: &Costs, after: &Costs) {
    row.set("cpu_ms", in_millis(after.operator.saturating_sub(before.operator)));
    row.set("client_cpu_ms", in_millis(after.client.saturating_sub(before.client)));
    row.set("bytes", (after.totals.bytes - before.totals.bytes) as f64);
    row.set("body_bytes", (after.totals.bodies - before.totals.bodies) as f64);
    row.set("messages", (after.totals.messages - before.totals.messages) as f64);
    row.set("resources", (after.resources() - before.resources()) as f64);
    for (kind, name) in Kind::ALL.into_iter().zip(["cds", "eds", "sds", "lds", "ecds", "rds"]) {
        let sent = |costs: &Costs| costs.totals.resources[kind as usize];
        row.set(name, (sent(after) - sent(before)) as f64);
    }
}

/// A split's weights and an endpoint's readiness, where everybody and where ten see it.
async fn changes(bench: &mut Bench, proxies: usize, cold: bool) -> anyhow::Result<Vec<Row>> {
    let shape = bench.settings.shape;
    let mut rows = Vec::new();
    eprintln!("==> changes seen by {proxies} proxies");
    let all = shape.receivers(Shape::HOT, proxies);
    rows.push(split(bench, Shape::HOT, (proxies, all)).await?);
    rows.push(endpoint(bench, shape.hot_backend(), (proxies, all)).await?);
    if cold {
        let some = shape.receivers(shape.cold(), proxies);
        eprintln!("==> changes seen by {some} of {proxies} proxies");
        rows.push(split(bench, shape.cold(), (proxies, some)).await?);
        let some = shape.receivers(shape.cold_plain(), proxies);
        rows.push(endpoint(bench, shape.cold_plain(), (proxies, some)).await?);
    }
    Ok(rows)
}

fn target_of(proxies: usize, receivers: usize, is_split: bool) -> &'static str {
    match (receivers == proxies, proxies >= 1000, is_split) {
        (true, true, true) => "≤ 1.3 × the floor; CPU ≤ 2 × the null server's; ≤ 1 MB in all",
        (true, true, false) => "≤ 1.3 × the floor; CPU ≤ 2 × the null server's",
        (true, false, _) => "p99 ≤ 10 ms",
        (false, _, true) => "p99 ≤ 3 ms",
        (false, _, false) => "p99 ≤ 3 ms; CPU ≤ 1 ms",
    }
}

async fn split(
    bench: &mut Bench,
    service: usize,
    (proxies, receivers): (usize, usize),
) -> anyhow::Result<Row> {
    let what = format!("TrafficSplit edit → the last of {receivers} (of {proxies} proxies)");
    let id = format!("split-{receivers}-of-{proxies}");
    let mut row = Row::new(&id, &what, target_of(proxies, receivers, true));
    row.set("proxies", proxies as f64);
    let (namespace, name) = (Shape::namespace(service), Shape::name(service));
    let mut watched = bench.cluster.watch("TrafficSplit", &namespace, &name).await?;
    let weight = |weight: u32| json!([{"op": "replace", "path": "/spec/backends/0/weight", "value": weight}]);
    let change = Change {
        watched: &mut watched,
        patches: [weight(80), weight(90)],
        carrier: (Kind::Route, format!("{namespace}/{name}/80")),
        receivers,
    };
    bench.changes(&mut row, change).await?;
    Ok(row)
}

fn ready(is_ready: bool) -> Value {
    json!([{"op": "replace", "path": "/endpoints/0/conditions/ready", "value": is_ready}])
}

async fn watch_slice(bench: &Bench, service: usize) -> anyhow::Result<Watched> {
    let name = format!("{}-0", Shape::name(service));
    bench.cluster.watch("EndpointSlice", &Shape::namespace(service), &name).await
}

async fn endpoint(
    bench: &mut Bench,
    service: usize,
    (proxies, receivers): (usize, usize),
) -> anyhow::Result<Row> {
    let what = format!("endpoint change → the last of {receivers} (of {proxies} proxies)");
    let id = format!("endpoint-{receivers}-of-{proxies}");
    let mut row = Row::new(&id, &what, target_of(proxies, receivers, false));
    row.set("proxies", proxies as f64);
    toggle(bench, &mut row, service, receivers).await?;
    Ok(row)
}

async fn toggle(bench: &mut Bench, row: &mut Row, service: usize, receivers: usize) -> anyhow::Result<()> {
    let mut watched = watch_slice(bench, service).await?;
    let change = Change {
        watched: &mut watched,
        patches: [ready(false), ready(true)],
        carrier: (Kind::Endpoints, format!("{}/{}/80", Shape::namespace(service), Shape::name(service))),
        receivers,
    };
    bench.changes(row, change).await
}

/// A change that ten see, while elsewhere an endpoint changes every ten milliseconds.
async fn under_churn(bench: &mut Bench, proxies: usize) -> anyhow::Result<Row> {
    let shape = bench.settings.shape;
    let receivers = shape.receivers(shape.cold_plain(), proxies);
    eprintln!("==> the same under 100 endpoint changes a second");
    let what =
        format!("endpoint change → the last of {receivers} (of {proxies}), under 100 changes/s elsewhere");
    let mut row = Row::new("endpoint-churn", &what, "p99 ≤ 20 ms");
    row.set("proxies", proxies as f64);
    let churn = churn(bench, Duration::from_millis(10));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    let toggled = toggle(bench, &mut row, shape.cold_plain(), receivers).await;
    row.set("seconds", started.elapsed().as_secs_f64());
    churn.abort();
    toggled?;
    // What is under way still arrives: nothing may change while the proxies of the next scenario are away.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // What the operator used went to the churn as well; it says nothing of one change.
    let cpu = row.get("cpu_ms").unwrap_or_default() * bench.settings.changes as f64;
    row.set("cpu_cores", cpu / 1000.0 / row.get("seconds").unwrap_or(1.0));
    for shared in ["cpu_ms", "client_cpu_ms", "bytes", "messages", "resources", "woken"] {
        row.figures.remove(shared);
    }
    Ok(row)
}

/// Changes an endpoint of one Service after the other, on and on.
fn churn(bench: &Bench, pause: Duration) -> JoinHandle<()> {
    let (cluster, shape) = (bench.cluster.clone(), bench.settings.shape);
    let quiet = [Shape::HOT, Shape::HOT + 1, Shape::HOT + 2, shape.cold_plain()];
    tokio::spawn(async move {
        let mut every = tokio::time::interval(pause);
        for round in 0_usize.. {
            for service in (0..shape.services).filter(|service| !quiet.contains(service)) {
                every.tick().await;
                let Ok(path) = cluster.path("EndpointSlice", &Shape::namespace(service)) else { return };
                let (cluster, path) = (cluster.clone(), format!("{path}/{}-0", Shape::name(service)));
                tokio::spawn(async move {
                    let change = ready(round % 2 == 1);
                    if let Err(error) = cluster.call(hyper::Method::PATCH, &path, Some(&change)).await {
                        eprintln!("    churn: {error:#}");
                    }
                });
            }
        }
    })
}

/// The operator is killed and comes back; everybody reconnects with what they have.
pub async fn reconnect(bench: &mut Bench, count: usize) -> anyhow::Result<Row> {
    eprintln!("==> {count} proxies reconnect to an operator that was restarted");
    let what = format!("operator restarts, {count} proxies reconnect, nothing changed");
    let mut row = Row::new("reconnect", &what, "≤ 1 s; ≤ 1 KB of resources to each");
    bench.operator.stop()?;
    bench.fleet.disconnect(false).await?;
    bench.restart().await?;
    // The snapshot is there once a proxy is served that brings nothing.
    crowd(bench, &mut row, count).await?;
    row.set("body_bytes_each", row.get("body_bytes").unwrap_or_default() / count as f64);
    row.set("bytes_each", row.get("bytes").unwrap_or_default() / count as f64);
    for meaningless in ["kib_each", "peak_mib"] {
        row.figures.remove(meaningless);
    }
    Ok(row)
}

/// As many proxies as there may be.
pub async fn many(bench: &mut Bench, count: usize) -> anyhow::Result<Row> {
    eprintln!("==> {count} proxies");
    let what = format!("{count} new proxies, at most 1,000 at a time");
    let mut row = Row::new("many", &what, "≤ 1 GB; ≤ 100 KB of memory each");
    bench.fleet.disconnect(true).await?;
    bench.restart().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    crowd(bench, &mut row, count).await?;
    Ok(row)
}

/// The floor of all rows that were measured with that many proxies, the first of which may be their connecting.
async fn floor(bench: &mut Bench, proxies: usize, rows: &mut [Row]) -> anyhow::Result<()> {
    bench.fleet.disconnect(true).await?;
    bench.operator.stop()?;
    let first = rows.iter().find(|row| row.id == "connect");
    let messages = first.and_then(|row| row.get("messages")).unwrap_or_default() / proxies as f64;
    let bytes = first.and_then(|row| row.get("bytes")).unwrap_or_default() / proxies as f64;
    let messages = (messages.round() as usize).max(1);
    bench.floor.script(messages, bytes as usize / messages)?;
    let cpu = process::cpu(bench.floor.pid());
    let connected = bench.fleet.connect(&bench.floor.target, proxies, Duration::from_mins(1)).await?;
    let cpu = process::cpu(bench.floor.pid()).saturating_sub(cpu);
    for row in rows {
        if row.id == "connect" {
            let times: Vec<f64> =
                connected.configured.iter().map(|at| millis(connected.started, *at)).collect();
            row.quantiles("floor", &times);
            row.set("floor_cpu_ms", in_millis(cpu));
        } else if row.get("bytes").is_some() {
            bench.floor(row).await?;
        }
    }
    Ok(())
}
