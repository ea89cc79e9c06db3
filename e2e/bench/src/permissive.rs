//! Measures permissive mode, in which every proxy sees every Service, beside an enforced mesh of the same size.
//!
//! `smidge-bench permissive` calls it. The proxies are the fleet's, as in every scenario, first with access enforced
//! and then, once a MeshConfig sets it, permissive. `xds/examples/permissive.rs` measures what one real Envoy needs for
//! it.

use hyper::Method;
use serde_json::json;

use crate::{bench::Bench, figures::Row, results::Results, scenario};

/// Measures connecting, reconnecting and an endpoint's change, in the two modes.
pub async fn all(bench: &mut Bench, proxies: usize, results: &mut Results) -> anyhow::Result<()> {
    in_mode(bench, "enforced", proxies, results).await?;
    let config = json!({
        "apiVersion": "smidge.mesh/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"},
        "spec": {"access": {"mode": "permissive"}},
    });
    bench.cluster.call(Method::POST, &bench.cluster.path("MeshConfig", "")?, Some(&config)).await?;
    in_mode(bench, "permissive", proxies, results).await
}

async fn in_mode(bench: &mut Bench, mode: &str, proxies: usize, results: &mut Results) -> anyhow::Result<()> {
    eprintln!("==> {proxies} proxies, {mode}");
    bench.fleet.disconnect(true).await?;
    results.add(arrival(bench, mode, "new", proxies).await?)?;
    results.add(endpoint(bench, mode, proxies).await?)?;
    bench.operator.stop()?;
    bench.fleet.disconnect(false).await?;
    results.add(arrival(bench, mode, "returning", proxies).await?)
}

/// Connects proxies to an operator that was just started.
async fn arrival(bench: &mut Bench, mode: &str, who: &str, proxies: usize) -> anyhow::Result<Row> {
    let mut row =
        Row::new(&format!("{mode}-{who}"), &format!("{proxies} {who} proxies connect at once, {mode}"));
    bench.restart().await?;
    bench.settle().await?;
    scenario::proxies(bench, &mut row, proxies).await?;
    eprintln!("    {:?}", row.figures);
    Ok(row)
}

/// Measures an endpoint of a Service that ten others may call if access is enforced, and all if not.
async fn endpoint(bench: &mut Bench, mode: &str, proxies: usize) -> anyhow::Result<Row> {
    let shape = bench.settings.shape;
    let service = shape.cold_plain();
    let receivers = if mode == "permissive" { proxies } else { shape.receivers(service, proxies) };
    let what = format!("endpoint change → the last of {receivers} (of {proxies} proxies), {mode}");
    let mut row = Row::new(&format!("{mode}-endpoint"), &what);
    let change = bench.readiness(service, receivers).await?;
    bench.changes(&mut row, change).await?;
    Ok(row)
}
