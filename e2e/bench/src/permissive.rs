//! The operator with every proxy seeing every Service: what permissive mode costs beside an enforced mesh of the same size.
//!
//! `smidge-bench permissive` calls it. The proxies are the fleet's, as in every scenario, first with access enforced and
//! then, after a MeshConfig says so, permissive. What one real Envoy takes for it is measured by `xds/examples/permissive.rs`.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    bench::{Bench, Change},
    cluster::Watched,
    figures::{Row, in_millis, millis},
    ledger::Ledger,
    process,
    shape::Shape,
    wire::Kind,
};

const CONFIGS: &str = "/apis/smidge.mesh/v1alpha1/meshconfigs";

/// Connecting, reconnecting and an endpoint's change, in the two modes.
pub async fn all(bench: &mut Bench, proxies: usize, ledger: &mut Ledger) -> anyhow::Result<()> {
    in_mode(bench, "enforced", proxies, ledger).await?;
    let config = json!({
        "apiVersion": "smidge.mesh/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"},
        "spec": {"access": {"mode": "permissive"}},
    });
    bench.cluster.call(Method::POST, CONFIGS, Some(&config)).await?;
    in_mode(bench, "permissive", proxies, ledger).await
}

async fn in_mode(bench: &mut Bench, mode: &str, proxies: usize, ledger: &mut Ledger) -> anyhow::Result<()> {
    eprintln!("==> {proxies} proxies, {mode}");
    bench.fleet.disconnect(true).await?;
    ledger.add(arrival(bench, mode, "new", proxies).await?)?;
    ledger.add(endpoint(bench, mode, proxies).await?)?;
    bench.operator.stop()?;
    bench.fleet.disconnect(false).await?;
    ledger.add(arrival(bench, mode, "returning", proxies).await?)
}

/// Proxies come to an operator that was just started.
async fn arrival(bench: &mut Bench, mode: &str, who: &str, proxies: usize) -> anyhow::Result<Row> {
    let mut row =
        Row::new(&format!("{mode}-{who}"), &format!("{proxies} {who} proxies connect at once, {mode}"));
    bench.restart().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (empty, before) = (process::memory(bench.operator.pid()), bench.costs().await?);
    let connected = bench.connect(proxies).await?;
    let times: Vec<f64> = connected.configured.iter().map(|at| millis(connected.started, *at)).collect();
    row.quantiles("configured", &times);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (memory, after) = (process::memory(bench.operator.pid()), bench.costs().await?);
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let each = |value: u64| value as f64 / proxies as f64;
    row.set("proxies", proxies as f64);
    row.set("before_mb", mb(empty.resident));
    row.set("resident_mb", mb(memory.resident));
    row.set("peak_mb", mb(memory.peak));
    row.set("kb_each", each(memory.resident.saturating_sub(empty.resident)) / 1e3);
    row.set("cpu_ms", in_millis(after.operator.saturating_sub(before.operator)));
    row.set("client_cpu_ms", in_millis(after.client.saturating_sub(before.client)));
    row.set("bytes_each", each(after.totals.bytes - before.totals.bytes));
    row.set("resources_each", each(after.resources() - before.resources()));
    row.set("held_each", each(after.totals.held));
    row.set("retries", connected.retries as f64);
    eprintln!("    {:?}", row.figures);
    Ok(row)
}

/// An endpoint of a Service that ten others may call if access is enforced, and everybody if not.
async fn endpoint(bench: &mut Bench, mode: &str, proxies: usize) -> anyhow::Result<Row> {
    let shape = bench.settings.shape;
    let service = shape.cold_plain();
    let receivers = if mode == "permissive" { proxies } else { shape.receivers(service, proxies) };
    let what = format!("endpoint change → the last of {receivers} (of {proxies} proxies), {mode}");
    let mut row = Row::new(&format!("{mode}-endpoint"), &what);
    let (namespace, name) = (Shape::namespace(service), Shape::name(service));
    let slice = format!("{name}-0");
    let mut watched: Watched = bench.cluster.watch("EndpointSlice", &namespace, &slice).await?;
    let ready = |is_ready: bool| -> Value {
        json!([{"op": "replace", "path": "/endpoints/0/conditions/ready", "value": is_ready}])
    };
    let change = Change {
        watched: &mut watched,
        patches: [ready(false), ready(true)],
        carrier: (Kind::Endpoints, format!("{namespace}/{name}/80")),
        receivers,
    };
    bench.changes(&mut row, change).await?;
    Ok(row)
}
