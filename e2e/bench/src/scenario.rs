//! Runs the scenarios, in an order in which each prepares the next.
//!
//! Called by `main`; each returns a row, and may expect the proxies of the one before to be connected. Defines what is
//! measured; `bench` and `baseline` measure it.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::{
    bench::{Bench, Change},
    churn::Churn,
    fairness,
    figures::{Row, in_millis, quantile},
    fleet::Connected,
    inject, process,
    results::Results,
    shape::Shape,
    wire::Kind,
};

/// Numbers of proxies in turn.
#[derive(Debug, Clone, Copy)]
pub struct ProxyCounts {
    /// Number in most scenarios.
    pub usual: usize,
    /// Number that is small enough for absolute times to be meaningful.
    pub few: usize,
    /// Maximum number; 0 leaves that scenario out.
    pub many: usize,
}

/// Runs everything, in order. Rows that were measured get their baseline even if a later scenario failed.
pub async fn all(bench: &mut Bench, proxy_counts: ProxyCounts, results: &mut Results) -> anyhow::Result<()> {
    let mut outcome = operator(bench, proxy_counts, results).await;
    // Last, as the baseline server must then run alone.
    for proxies in [proxy_counts.usual, proxy_counts.few] {
        let baseline = baseline(bench, proxies, results).await;
        if let (Err(first), Err(error)) = (&outcome, &baseline) {
            eprintln!("    no baseline after {first:#}: {error:#}");
        }
        outcome = outcome.and(baseline);
    }
    outcome
}

async fn operator(bench: &mut Bench, proxy_counts: ProxyCounts, results: &mut Results) -> anyhow::Result<()> {
    let shape = bench.settings.shape;
    results.add(cold_start(bench).await?)?;
    results.add(connect(bench, proxy_counts.usual).await?)?;
    eprintln!("==> changes");
    results.add(split(bench, "split-all", Shape::HOT, proxy_counts.usual).await?)?;
    results.add(endpoint(bench, "endpoint-all", shape.hot_backend(), proxy_counts.usual).await?)?;
    results.add(split(bench, "split-some", shape.cold(), proxy_counts.usual).await?)?;
    results.add(endpoint(bench, "endpoint-some", shape.cold_plain(), proxy_counts.usual).await?)?;
    results.add(under_churn(bench, proxy_counts.usual).await?)?;
    results.add(reconnect(bench, proxy_counts.usual).await?)?;
    results.add(inject::measure(bench).await?)?;
    eprintln!("==> changes with {} proxies", proxy_counts.few);
    bench.fleet.disconnect(false).await?;
    bench.connect(proxy_counts.few).await?;
    bench.settle().await?;
    results.add(split(bench, "split-few", Shape::HOT, proxy_counts.few).await?)?;
    results.add(endpoint(bench, "endpoint-few", shape.hot_backend(), proxy_counts.few).await?)?;
    if proxy_counts.many > 0 {
        results.add(many(bench, proxy_counts.many).await?)?;
    }
    fairness::all(bench, proxy_counts, results).await
}

/// Measures the time from the start of the process until the first proxy has every resource.
async fn cold_start(bench: &mut Bench) -> anyhow::Result<Row> {
    eprintln!("==> cold start");
    let mut row = Row::new("cold-start", "cold start, all objects in the API server");
    let (mut whole, mut after) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        bench.fleet.disconnect(true).await?;
        bench.restart().await?;
        bench.connect(1).await?;
        let first = bench.operator.started.elapsed();
        let listed = bench
            .operator
            .logged_after("every object was read")
            .context("the log has no time at which all was read")?;
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

/// Converts bytes to megabytes.
pub fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Connects new proxies concurrently, which get certificates.
async fn connect(bench: &mut Bench, count: usize) -> anyhow::Result<Row> {
    eprintln!("==> {count} proxies connect");
    let what = format!("{count} new proxies connect at once, certificates included");
    let mut row = Row::new("connect", &what);
    bench.fleet.disconnect(true).await?;
    // No proxy has ever been connected: the operator holds the mesh alone.
    bench.restart().await?;
    bench.settle().await?;
    proxies(bench, &mut row, count).await?;
    Ok(row)
}

/// Connects `count` proxies to an operator that is otherwise idle.
pub async fn proxies(bench: &mut Bench, row: &mut Row, count: usize) -> anyhow::Result<Connected> {
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

/// Returns the number of proxies that receive a change, and its description.
fn receivers_of(shape: Shape, service: usize, proxies: usize) -> (usize, String) {
    match shape.receivers(service, proxies) {
        all if all == proxies => (all, format!("the last of {all}")),
        some => (some, format!("the last of {some} (of {proxies} proxies)")),
    }
}

/// Measures an edit of the weights of a Service's split.
pub async fn split(bench: &mut Bench, id: &str, service: usize, proxies: usize) -> anyhow::Result<Row> {
    let (receivers, description) = receivers_of(bench.settings.shape, service, proxies);
    let mut row = Row::new(id, &format!("TrafficSplit edit → {description}"));
    row.set("proxies", proxies as f64);
    let (namespace, name) = (Shape::namespace(service), Shape::name(service));
    let weight = |weight: u32| json!([{"op": "replace", "path": "/spec/backends/0/weight", "value": weight}]);
    let change = Change {
        watched: bench.cluster.watch("TrafficSplit", &namespace, &name).await?,
        // The last patch restores the split as it was created.
        patches: [weight(80), weight(90)],
        carrier: (Kind::Route, format!("{namespace}/{name}/80")),
        receivers,
    };
    bench.changes(&mut row, change).await?;
    Ok(row)
}

/// Measures a change of the readiness of a Service's endpoint.
async fn endpoint(bench: &mut Bench, id: &str, service: usize, proxies: usize) -> anyhow::Result<Row> {
    let (receivers, description) = receivers_of(bench.settings.shape, service, proxies);
    let mut row = Row::new(id, &format!("endpoint change → {description}"));
    row.set("proxies", proxies as f64);
    let change = bench.readiness(service, receivers).await?;
    bench.changes(&mut row, change).await?;
    Ok(row)
}

/// Measures a change that ten proxies see, while elsewhere an endpoint changes every ten milliseconds.
async fn under_churn(bench: &mut Bench, proxies: usize) -> anyhow::Result<Row> {
    let shape = bench.settings.shape;
    let (receivers, description) = receivers_of(shape, shape.cold_plain(), proxies);
    eprintln!("==> the same under 100 endpoint changes a second");
    let mut row = Row::new("endpoint-churn", "");
    row.set("proxies", proxies as f64);
    let quiet = [Shape::HOT, Shape::HOT + 1, Shape::HOT + 2, shape.cold_plain()];
    let churn = Churn::start(bench.cluster.clone(), shape, &quiet, Duration::from_millis(10));
    // The first change is made once the others are in progress.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let toggled = match bench.readiness(shape.cold_plain(), receivers).await {
        Ok(change) => bench.changes(&mut row, change).await,
        Err(error) => Err(error),
    };
    let churned = churn.stop().await?;
    toggled?;
    // Changes in progress still arrive: nothing may change while the proxies of the next scenario are disconnected.
    bench.settle().await?;
    row.set("churn_per_s", churned);
    row.what = format!("endpoint change → {description}, under {churned:.0} changes/s elsewhere");
    // The other figures include what the churn has used and sent, and so do not describe one change.
    row.figures.retain(|figure, _| {
        figure.starts_with("last_")
            || figure.starts_with("late_")
            || ["proxies", "changes", "receivers", "churn_per_s"].contains(&figure.as_str())
    });
    Ok(row)
}

/// Kills and restarts the operator; all proxies reconnect with the resources that they hold.
async fn reconnect(bench: &mut Bench, count: usize) -> anyhow::Result<Row> {
    eprintln!("==> {count} proxies reconnect to an operator that was restarted");
    let what = format!("operator restarts, {count} proxies reconnect once it serves, nothing changed");
    let mut row = Row::new("reconnect", &what);
    bench.operator.stop()?;
    bench.fleet.disconnect(false).await?;
    bench.restart().await?;
    // The time until it serves belongs to the cold start.
    bench.published().await?;
    let connected = proxies(bench, &mut row, count).await?;
    // Users see the time from the start of the new process until the last proxy is served again.
    let last = connected.configured.last().context("no proxy reconnected")?;
    row.set("start_to_last_s", last.saturating_duration_since(bench.operator.started).as_secs_f64());
    for meaningless in ["kb_each", "peak_mb"] {
        row.figures.remove(meaningless);
    }
    Ok(row)
}

/// Connects the maximum number of proxies.
async fn many(bench: &mut Bench, count: usize) -> anyhow::Result<Row> {
    eprintln!("==> {count} proxies");
    let what = format!("{count} new proxies, at most 1,000 at a time");
    let mut row = Row::new("many", &what);
    bench.fleet.disconnect(true).await?;
    bench.restart().await?;
    bench.settle().await?;
    proxies(bench, &mut row, count).await?;
    Ok(row)
}

/// Measures the baseline of all rows that were measured with that number of proxies, and of their connecting.
async fn baseline(bench: &mut Bench, proxies: usize, results: &mut Results) -> anyhow::Result<()> {
    let Some(connect) = results.get("connect") else { return Ok(()) };
    eprintln!("==> the baseline with {proxies} proxies");
    let each = |name: &str| {
        connect.get(name).unwrap_or_default() / connect.get("proxies").unwrap_or_default().max(1.0)
    };
    let messages = (each("messages").round() as usize).max(1);
    let bytes = each("message_bytes") as usize / messages;
    bench.fleet.disconnect(true).await?;
    bench.operator.stop()?;
    bench.baseline.script(messages, bytes).await?;
    let cpu = process::cpu(bench.baseline.pid());
    let connected = bench.fleet.connect(&bench.baseline.target, proxies, Duration::from_mins(1)).await?;
    let cpu = process::cpu(bench.baseline.pid()).saturating_sub(cpu);
    for row in results.without_baseline(proxies) {
        if row.id == "connect" {
            row.quantiles("baseline", &connected.times());
            row.set("baseline_cpu_ms", in_millis(cpu));
        } else if row.get("receivers").is_some() {
            bench.baseline(row).await?;
        }
    }
    results.write()
}
