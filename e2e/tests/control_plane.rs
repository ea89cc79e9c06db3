//! Tests that what happens to the control plane loses no request: rolling restarts and the end of the operator, an API
//! server that does not answer, leaf certificates that are renewed all the time, splits that are edited all the time.
//!
//! Each case prints a row of the table in `docs/lifecycle.md`. These tests change the mesh itself, so `make test` runs them
//! one at a time, after the others. `SMIDGE_PAUSE` sets the seconds for which the API server stops and leaves are renewed.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use smidge_e2e::{
    Load, Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, everything, service, shop, split, target},
    exclusive,
    node::Disturbance,
    operator::Operator,
    pod::is_ready,
    until,
    wait::pass,
    with_temp_ns,
};

/// Time limit for the operator to be replaced.
const BACK: Duration = Duration::from_mins(2);
const BOOKS: &str = "http://shop:14001/books";

/// Returns the time for which a test lets something go on.
fn pause() -> Duration {
    let seconds = std::env::var("SMIDGE_PAUSE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(20))
}

/// Starts two servers and their client in a mesh that only this test changes.
async fn started(namespace: &Namespace) -> anyhow::Result<(Operator, Pod)> {
    exclusive(&namespace.cluster, &namespace.name).await?;
    let servers = shop("one", "shop", "one") + &shop("two", "shop", "two");
    let root = service("shop", "one", HTTP);
    let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
    namespace.apply(&(servers + &root + &caller("buyer") + &policy)).await?;
    for app in ["one", "two"] {
        Pod::one(namespace, app).await?;
    }
    Ok((Operator::of(&namespace.cluster), Pod::one(namespace, "buyer").await?))
}

/// Lets `change` happen under load, prints its row, and requires that no request failed.
async fn case(
    buyer: &Pod,
    name: &str,
    change: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let load = Load::start(buyer, BOOKS).await?;
    let changed = change().await;
    let report = load.end().await?;
    println!("| {name} | | {report}");
    changed.with_context(|| name.to_owned())?;
    report.must_be_whole().with_context(|| name.to_owned())
}

#[tokio::test]
async fn the_operators_pods_are_replaced_and_no_request_fails() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (operator, buyer) = started(namespace).await?;
        case(&buyer, "rolling upgrade of the operator", || operator.restart()).await?;
        case(&buyer, "kill of each replica of the operator in turn", async || {
            for replica in operator.replicas().await? {
                replica.kill().await?;
                until("another pod in its place", BACK, async || {
                    let now = operator.replicas().await?;
                    anyhow::ensure!(now.iter().all(|pod| pod.uid != replica.uid), "not replaced yet");
                    Ok(())
                })
                .await?;
            }
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_costs_no_request() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (operator, buyer) = started(namespace).await?;
        let name = format!("API server stopped for {} s", pause().as_secs());
        case(&buyer, &name, async || {
            let Some(stopped) = Disturbance::stop("kube-apiserver")? else { return Ok(()) };
            pass(pause()).await?;
            drop(stopped);
            // A change takes effect again.
            operator.replicas().await?;
            namespace.apply(&split("v1alpha4", "shop", &[("two", 1)])).await?;
            until("a change after the pause", BACK, async || {
                let calls = buyer.call(BOOKS, &["--count=10"]).await?;
                anyhow::ensure!(calls.served_by.get("two") == Some(&10), "{calls:?}");
                Ok(())
            })
            .await
        })
        .await
    })
    .await
}

/// The kubelet does not answer for longer than the time after which its node counts as lost, and with it all pods as not ready.
#[tokio::test]
async fn a_kubelet_that_does_not_answer_costs_no_request() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (operator, buyer) = started(namespace).await?;
        case(&buyer, "kubelet stopped, its node lost for 20 s", async || {
            let Some(stopped) = Disturbance::stop("kubelet")? else { return Ok(()) };
            until("all pods to count as not ready", BACK, async || {
                let pods = namespace.pods().list(&ListParams::default()).await?.items;
                anyhow::ensure!(!pods.iter().any(is_ready), "there is one that is ready");
                Ok(())
            })
            .await?;
            pass(Duration::from_secs(20)).await?;
            drop(stopped);
            until("pods to be ready again, those of the operator among them", BACK, async || {
                let pods = namespace.pods().list(&ListParams::default()).await?.items;
                anyhow::ensure!(pods.iter().all(is_ready), "there is one that is not ready");
                operator.replicas().await.map(drop)
            })
            .await
        })
        .await
    })
    .await
}

#[tokio::test]
async fn leaves_of_a_minute_are_renewed_and_no_request_fails() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (operator, _) = started(namespace).await?;
        let arguments = operator.arguments().await?;
        let mut short = arguments.clone();
        short.push("--leaf-lifetime-seconds=60".to_owned());
        operator.set_arguments(&short).await?;
        let outcome = renewed(namespace, &operator).await;
        operator.set_arguments(&arguments).await?;
        outcome
    })
    .await
}

async fn renewed(namespace: &Namespace, operator: &Operator) -> anyhow::Result<()> {
    // Proxies that start now get leaves of a minute; the others keep those of a day.
    for app in ["one", "buyer"] {
        namespace.restart(app).await?;
    }
    let buyer = Pod::one(namespace, "buyer").await?;
    let issued = async || -> anyhow::Result<f64> {
        let mut all = 0.0;
        for replica in operator.replicas().await? {
            all += replica.metrics().await?.sum("leaf_certificates_issued_total")?;
        }
        Ok(all)
    };
    let before = issued().await?;
    let name = "leaves of 60 s, until 4 were renewed";
    case(&buyer, name, || {
        until("leaves to be renewed", BACK + pause(), async || {
            let renewed = issued().await? - before;
            anyhow::ensure!(renewed >= 4.0, "{renewed} were issued");
            Ok(())
        })
    })
    .await
}

#[tokio::test]
async fn splits_that_are_edited_every_second_lose_no_request() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (_, buyer) = started(namespace).await?;
        namespace.apply(&split("v1alpha4", "shop", &[("one", 50), ("two", 50)])).await?;
        let splits = namespace.cluster.api("split.smi-spec.io/v1alpha4", "TrafficSplit", &namespace.name)?;
        case(&buyer, "its split edited once a second", async || {
            let end = std::time::Instant::now() + pause();
            let mut weight = 0;
            while std::time::Instant::now() < end {
                weight = (weight + 37) % 100;
                let backends =
                    json!([{"service": "one", "weight": weight}, {"service": "two", "weight": 100 - weight}]);
                let patch = json!({"spec": {"backends": backends}});
                splits.patch("shop", &PatchParams::default(), &Patch::Merge(patch)).await?;
                pass(Duration::from_secs(1)).await?;
            }
            Ok(())
        })
        .await
    })
    .await
}
