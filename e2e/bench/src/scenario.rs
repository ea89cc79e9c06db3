//! The scenarios, in the order in which one leads to the next.
//!
//! Called by `main`; each yields a row, and may expect the proxies of the one before to be connected. What is measured
//! is said here; how, in `bench` and `floor`.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::{
    bench::{Bench, Change},
    churn::Churn,
    fairness,
    figures::{Row, in_millis, quantile},
    fleet::Connected,
    inject,
    ledger::Ledger,
    process,
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

/// Everything, in order. What was measured gets its floor even if what came after it was not.
pub async fn all(bench: &mut Bench, crowds: Crowds, ledger: &mut Ledger) -> anyhow::Result<()> {
    let mut outcome = operator(bench, crowds, ledger).await;
    // Last, as the null server is the only one that may run then.
    for proxies in [crowds.usual, crowds.few] {
        let floor = floor(bench, proxies, ledger).await;
        if let (Err(first), Err(error)) = (&outcome, &floor) {
            eprintln!("    no floor after {first:#}: {error:#}");
        }
        outcome = outcome.and(floor);
    }
    outcome
}

async fn operator(bench: &mut Bench, crowds: Crowds, ledger: &mut Ledger) -> anyhow::Result<()> {
    let shape = bench.settings.shape;
    ledger.add(cold_start(bench).await?)?;
    ledger.add(connect(bench, crowds.usual).await?)?;
    eprintln!("==> changes");
    ledger.add(split(bench, "split-all", Shape::HOT, crowds.usual).await?)?;
    ledger.add(endpoint(bench, "endpoint-all", shape.hot_backend(), crowds.usual).await?)?;
    ledger.add(split(bench, "split-some", shape.cold(), crowds.usual).await?)?;
    ledger.add(endpoint(bench, "endpoint-some", shape.cold_plain(), crowds.usual).await?)?;
    ledger.add(under_churn(bench, crowds.usual).await?)?;
    ledger.add(reconnect(bench, crowds.usual).await?)?;
    ledger.add(inject::measure(bench).await?)?;
    eprintln!("==> changes with {} proxies", crowds.few);
    bench.fleet.disconnect(false).await?;
    bench.connect(crowds.few).await?;
    bench.settle().await?;
    ledger.add(split(bench, "split-few", Shape::HOT, crowds.few).await?)?;
    ledger.add(endpoint(bench, "endpoint-few", shape.hot_backend(), crowds.few).await?)?;
    if crowds.many > 0 {
        ledger.add(many(bench, crowds.many).await?)?;
    }
    fairness::all(bench, crowds, ledger).await
}

/// From the start of the process until the first proxy has everything.
async fn cold_start(bench: &mut Bench) -> anyhow::Result<Row> {
    eprintln!("==> cold start");
    let mut row = Row::new("cold-start", "cold start, all objects in the API server");
    let (mut whole, mut after) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        bench.fleet.disconnect(true).await?;
        bench.restart().await?;
        bench.connect(1).await?;
        let first = bench.operator.started.elapsed();
        let listed =
            bench.operator.said("all watches synced").context("the log does not say when all was read")?;
        whole.push(first.as_secs_f64());
        after.push(first.saturating_sub(listed).as_secs_f64());
        bench.settle().await?;
    }
    row.set("start_to_first_proxy_s", quantile(&whole, 0.5));
    row.set("lists_to_first_proxy_s", quantile(&after, 0.5));
    let memory = process::memory(bench.operator.pid());
    row.set("peak_mb", mb(memory.peak));
    row.set("resident_mb", mb(memory.resident));
    Ok(row)
}

/// Bytes in millions.
pub fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// All proxies come at once, new, and get certificates.
async fn connect(bench: &mut Bench, count: usize) -> anyhow::Result<Row> {
    eprintln!("==> {count} proxies connect");
    let what = format!("{count} new proxies connect at once, certificates included");
    let mut row = Row::new("connect", &what);
    bench.fleet.disconnect(true).await?;
    // Nobody was ever there: what the operator has is the mesh alone.
    bench.restart().await?;
    bench.settle().await?;
    crowd(bench, &mut row, count).await?;
    Ok(row)
}

/// So many proxies come to an operator that does nothing else.
pub async fn crowd(bench: &mut Bench, row: &mut Row, count: usize) -> anyhow::Result<Connected> {
    let before = bench.before().await?;
    let connected = bench.connect(count).await?;
    row.quantiles("configured", &connected.times());
    bench.settle().await?;
    let after = bench.after().await?;
    after.set(row, &before, 1.0);
    row.set("proxies", count as f64);
    row.set("retries", connected.retries as f64);
    row.set("before_mb", mb(before.memory.resident));
    row.set("resident_mb", mb(after.memory.resident));
    row.set("peak_mb", mb(after.memory.peak));
    let each = |value: f64| value / count as f64;
    row.set("kb_each", each(after.memory.resident.saturating_sub(before.memory.resident) as f64 / 1e3));
    row.set("held_each", each(after.totals.held as f64));
    for figure in ["resources", "body_bytes", "wire_bytes"] {
        row.set(&format!("{figure}_each"), each(row.get(figure).unwrap_or_default()));
    }
    anyhow::ensure!(after.totals.open == count as u64, "{} of {count} are connected", after.totals.open);
    eprintln!(
        "    the last after {:.0} ms, {:.0} KB each",
        row.get("configured_max_ms").unwrap_or_default(),
        row.get("kb_each").unwrap_or_default()
    );
    Ok(connected)
}

/// Who is told of a change, in words.
fn told(shape: Shape, service: usize, proxies: usize) -> (usize, String) {
    match shape.receivers(service, proxies) {
        all if all == proxies => (all, format!("the last of {all}")),
        some => (some, format!("the last of {some} (of {proxies} proxies)")),
    }
}

/// The weights of a Service's split are edited.
async fn split(bench: &mut Bench, id: &str, service: usize, proxies: usize) -> anyhow::Result<Row> {
    let (receivers, told) = told(bench.settings.shape, service, proxies);
    let mut row = Row::new(id, &format!("TrafficSplit edit → {told}"));
    row.set("proxies", proxies as f64);
    let (namespace, name) = (Shape::namespace(service), Shape::name(service));
    let weight = |weight: u32| json!([{"op": "replace", "path": "/spec/backends/0/weight", "value": weight}]);
    let change = Change {
        watched: bench.cluster.watch("TrafficSplit", &namespace, &name).await?,
        // The last one is as the split was made.
        patches: [weight(80), weight(90)],
        carrier: (Kind::Route, format!("{namespace}/{name}/80")),
        receivers,
    };
    bench.changes(&mut row, change).await?;
    Ok(row)
}

/// The readiness of an endpoint of a Service changes.
async fn endpoint(bench: &mut Bench, id: &str, service: usize, proxies: usize) -> anyhow::Result<Row> {
    let (receivers, told) = told(bench.settings.shape, service, proxies);
    let mut row = Row::new(id, &format!("endpoint change → {told}"));
    row.set("proxies", proxies as f64);
    let change = bench.readiness(service, receivers).await?;
    bench.changes(&mut row, change).await?;
    Ok(row)
}

/// A change that ten see, while elsewhere an endpoint changes every ten milliseconds.
async fn under_churn(bench: &mut Bench, proxies: usize) -> anyhow::Result<Row> {
    let shape = bench.settings.shape;
    let (receivers, told) = told(shape, shape.cold_plain(), proxies);
    eprintln!("==> the same under 100 endpoint changes a second");
    let mut row = Row::new("endpoint-churn", "");
    row.set("proxies", proxies as f64);
    let quiet = [Shape::HOT, Shape::HOT + 1, Shape::HOT + 2, shape.cold_plain()];
    let churn = Churn::start(bench.cluster.clone(), shape, &quiet, Duration::from_millis(10));
    // The first change comes when the others are under way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let toggled = match bench.readiness(shape.cold_plain(), receivers).await {
        Ok(change) => bench.changes(&mut row, change).await,
        Err(error) => Err(error),
    };
    let churned = churn.stop().await?;
    toggled?;
    // What is under way still arrives: nothing may change while the proxies of the next scenario are away.
    bench.settle().await?;
    row.set("churn_per_s", churned);
    row.what = format!("endpoint change → {told}, under {churned:.0} changes/s elsewhere");
    // What the churn has used and sent is in them: they say nothing of one change.
    row.figures.retain(|figure, _| {
        figure.starts_with("last_")
            || figure.starts_with("late_")
            || ["proxies", "changes", "receivers", "churn_per_s"].contains(&figure.as_str())
    });
    Ok(row)
}

/// The operator is killed and comes back; everybody reconnects with what they have.
async fn reconnect(bench: &mut Bench, count: usize) -> anyhow::Result<Row> {
    eprintln!("==> {count} proxies reconnect to an operator that was restarted");
    let what = format!("operator restarts, {count} proxies reconnect once it serves, nothing changed");
    let mut row = Row::new("reconnect", &what);
    bench.operator.stop()?;
    bench.fleet.disconnect(false).await?;
    bench.restart().await?;
    // How long it takes until it serves is the cold start's matter.
    bench.published().await?;
    let connected = crowd(bench, &mut row, count).await?;
    // What users see of it: until the last one is served again, from the start of the new process.
    let last = connected.configured.last().context("nobody came back")?;
    row.set("start_to_last_s", last.saturating_duration_since(bench.operator.started).as_secs_f64());
    for meaningless in ["kb_each", "peak_mb"] {
        row.figures.remove(meaningless);
    }
    Ok(row)
}

/// As many proxies as there may be.
async fn many(bench: &mut Bench, count: usize) -> anyhow::Result<Row> {
    eprintln!("==> {count} proxies");
    let what = format!("{count} new proxies, at most 1,000 at a time");
    let mut row = Row::new("many", &what);
    bench.fleet.disconnect(true).await?;
    bench.restart().await?;
    bench.settle().await?;
    crowd(bench, &mut row, count).await?;
    Ok(row)
}

/// The floor of all rows that were measured with that many proxies, their connecting included.
async fn floor(bench: &mut Bench, proxies: usize, ledger: &mut Ledger) -> anyhow::Result<()> {
    let Some(connect) = ledger.get("connect") else { return Ok(()) };
    eprintln!("==> the floor with {proxies} proxies");
    let each = |name: &str| {
        connect.get(name).unwrap_or_default() / connect.get("proxies").unwrap_or_default().max(1.0)
    };
    let messages = (each("messages").round() as usize).max(1);
    let bytes = each("message_bytes") as usize / messages;
    bench.fleet.disconnect(true).await?;
    bench.operator.stop()?;
    bench.floor.script(messages, bytes).await?;
    let cpu = process::cpu(bench.floor.pid());
    let connected = bench.fleet.connect(&bench.floor.target, proxies, Duration::from_mins(1)).await?;
    let cpu = process::cpu(bench.floor.pid()).saturating_sub(cpu);
    for row in ledger.without_floor(proxies) {
        if row.id == "connect" {
            row.quantiles("floor", &connected.times());
            row.set("floor_cpu_ms", in_millis(cpu));
        } else if row.get("receivers").is_some() {
            bench.floor(row).await?;
        }
    }
    ledger.write()
}
