//! Measures what the statistics of proxies cost the operator: CPU, memory, and the latency of a change meanwhile.
//!
//! `smidge-bench traffic` calls it. The same proxies first push nothing, and then their statistics once every ten seconds,
//! as Envoys do, each on the connection of its stream. What counting costs a proxy is measured by `sidecars`.

use std::time::{Duration, Instant};

use crate::{
    bench::Bench,
    figures::{Row, in_millis},
    process,
    push::Push,
    results::Results,
    scenario::mb,
};

/// Interval of a proxy's pushes (`xds::bootstrap`).
const PERIOD: Duration = Duration::from_secs(10);
/// Callers and Services called of a proxy: 99 series.
const CALLERS: usize = 20;
const CALLED: usize = 13;
/// Counters of what the operator received, and dropped.
const RECEIVED: [&str; 2] = ["smidge_traffic_received_bytes_total", "smidge_traffic_dropped_total"];

/// Measures a mesh without pushes, and with them.
pub async fn all(
    bench: &mut Bench,
    proxies: usize,
    lasting: Duration,
    results: &mut Results,
) -> anyhow::Result<()> {
    bench.restart().await?;
    bench.connect(proxies).await?;
    bench.settle().await?;
    results.add(during(bench, "quiet", lasting, proxies).await?)?;
    results.add(change(bench, "without statistics", proxies).await?)?;
    let push = Push { shape: bench.settings.shape, callers: CALLERS, called: CALLED };
    bench.fleet.push(Some((push, proxies, PERIOD)))?;
    // Each proxy's first push is a baseline, and its series are new.
    tokio::time::sleep(2 * PERIOD).await;
    let mut row = during(bench, "pushes", lasting, proxies).await?;
    row.set("series", push.series() as f64);
    results.add(row)?;
    results.add(change(bench, "with statistics", proxies).await?)?;
    results.add(scrape(bench)?)?;
    bench.fleet.push(None)
}

/// Measures the operator for some time.
async fn during(bench: &Bench, what: &str, lasting: Duration, proxies: usize) -> anyhow::Result<Row> {
    eprintln!("==> {proxies} proxies, {what}, {lasting:?}");
    let received = bench.operator.counters(&RECEIVED)?;
    let before = bench.before().await?;
    tokio::time::sleep(lasting).await;
    let after = bench.after().await?;
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let mut row =
        Row::new(&format!("traffic-{what}"), &format!("{proxies} proxies for {seconds:.0} s, {what}"));
    row.set("proxies", proxies as f64);
    row.set("cpu_ms_per_s", in_millis(after.operator.saturating_sub(before.operator)) / seconds);
    row.set("client_cpu_ms_per_s", in_millis(after.client.saturating_sub(before.client)) / seconds);
    row.set("before_mb", mb(before.memory.resident));
    row.set("resident_mb", mb(after.memory.resident));
    let sent = after.totals.pushes - before.totals.pushes;
    row.set("pushes_per_s", sent as f64 / seconds);
    row.set(
        "pushes_answered_per_s",
        (after.totals.pushes_answered - before.totals.pushes_answered) as f64 / seconds,
    );
    row.set("pushes_failed", (after.totals.pushes_failed - before.totals.pushes_failed) as f64);
    row.set("push_bytes", (after.totals.push_bytes - before.totals.push_bytes) as f64 / (sent.max(1) as f64));
    let now = bench.operator.counters(&RECEIVED)?;
    for (figure, (now, then)) in
        ["received_bytes_per_s", "dropped_per_s"].into_iter().zip(now.iter().zip(&received))
    {
        row.set(figure, (now - then) / seconds);
    }
    eprintln!("    {:?}", row.figures);
    Ok(row)
}

/// Measures an endpoint's change that ten proxies see.
async fn change(bench: &mut Bench, what: &str, proxies: usize) -> anyhow::Result<Row> {
    let shape = bench.settings.shape;
    let service = shape.cold_plain();
    let receivers = shape.receivers(service, proxies);
    let mut row = Row::new(
        &format!("traffic-change-{}", what.replace(' ', "-")),
        &format!("endpoint change → the last of {receivers} (of {proxies} proxies), {what}"),
    );
    let change = bench.readiness(service, receivers).await?;
    bench.changes(&mut row, change).await?;
    Ok(row)
}

/// Measures the page that Prometheus reads.
fn scrape(bench: &Bench) -> anyhow::Result<Row> {
    let mut row = Row::new("traffic-scrape", "one scrape of all of it");
    let (cpu, started) = (bench.operator.cpu(), Instant::now());
    let page = bench.operator.page("/metrics")?;
    row.set("took_s", started.elapsed().as_secs_f64());
    row.set("cpu_ms", in_millis(bench.operator.cpu().saturating_sub(cpu)));
    row.set("page_mb", mb(page.len() as u64));
    row.set("resident_mb", mb(process::memory(bench.operator.pid()).resident));
    eprintln!("    {:?}", row.figures);
    Ok(row)
}
