//! Tests the figures of TrafficMetrics in a real cluster: calls of a known number are counted once, by the peer's workload,
//! by the Service that was called, by the backend of a split, and by outcome.
//!
//! Figures arrive with the next push of a proxy, so each test waits for them; what it waits for is exact.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, everything, service, shop, split, target},
    until, with_temp_ns,
};

/// Time limit for figures to arrive: a few pushes, on a machine with other load.
const COUNTED: Duration = Duration::from_mins(1);
/// Time limit for a caller to see the effect of an edit.
const EFFECT: Duration = Duration::from_secs(20);
const ROOT: &str = "http://shop:14001/books";
/// Number of calls of the allowed caller, and of the refused one.
const CALLS: u64 = 400;
const REFUSED: u64 = 30;

/// Returns the TrafficMetrics of a path in the namespace, one or several, within half an hour.
async fn items(namespace: &Namespace, path: &str) -> anyhow::Result<Vec<Value>> {
    let base = format!("/apis/metrics.smi-spec.io/v1alpha2/namespaces/{}", namespace.name);
    let text = namespace.kubectl(&format!("get --raw {base}/{path}?window=30m")).await?;
    let answer: Value = serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))?;
    Ok(match answer.get("items").and_then(Value::as_array) {
        Some(items) => items.clone(),
        None => vec![answer],
    })
}

/// Returns the sum of a count over items.
fn count<'a>(items: impl IntoIterator<Item = &'a Value>, name: &str) -> u64 {
    let metrics = items.into_iter().flat_map(|item| item["metrics"].as_array().into_iter().flatten());
    metrics.filter(|it| it["name"] == name).filter_map(|it| it["value"].as_str()?.parse::<u64>().ok()).sum()
}

/// Returns the items whose edge goes to or comes from a peer.
fn edges<'a>(
    items: &'a [Value],
    direction: &'a str,
    kind: &'a str,
    name: &'a str,
) -> impl Iterator<Item = &'a Value> {
    items.iter().filter(move |item| {
        let is = |field: &str, value: &str| item.pointer(field).and_then(Value::as_str) == Some(value);
        is("/edge/direction", direction) && is("/edge/resource/kind", kind) && is("/edge/resource/name", name)
    })
}

/// Creates two versions behind a split of 3:1, a buyer that may call them, and a thief that may not. Returns the number of
/// answered calls as well; the thief has made one.
async fn scenario(namespace: &Namespace) -> anyhow::Result<(Pod, Pod, u64)> {
    let root = service("shop", "shop-v1", HTTP);
    namespace.apply(&(shop("shop-v1", "shop", "v1") + &shop("shop-v2", "shop", "v2") + &root)).await?;
    let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
    namespace.apply(&(caller("buyer") + &caller("thief") + &policy)).await?;
    namespace.apply(&split("v1alpha4", "shop", &[("shop-v1", 3), ("shop-v2", 1)])).await?;
    Pod::one(namespace, "shop-v1").await?;
    Pod::one(namespace, "shop-v2").await?;
    let (buyer, thief) = (Pod::one(namespace, "buyer").await?, Pod::one(namespace, "thief").await?);
    let mut answered = 0;
    until("both versions to answer", EFFECT, async || {
        let calls = buyer.call(ROOT, &["--count=20"]).await?;
        answered += calls.served_by.values().sum::<u64>();
        anyhow::ensure!(calls.share("v1") > 0.0 && calls.share("v2") > 0.0, "{calls:?}");
        Ok(())
    })
    .await?;
    thief.call(ROOT, &[]).await?.must_all_be(403)?;
    Ok((buyer, thief, answered))
}

/// Returns the number of calls that the allowed caller's proxy, those of the servers, and the refused caller's have
/// counted.
async fn counted(namespace: &Namespace) -> anyhow::Result<[u64; 3]> {
    let service = items(namespace, "services/shop").await?;
    let servers = items(namespace, "deployments").await?;
    let refused = items(namespace, "deployments/thief/edges").await?;
    Ok([
        count(&service, "success_count"),
        count(&servers, "success_count"),
        count(edges(&refused, "to", "Service", "shop"), "refused_count"),
    ])
}

#[tokio::test]
async fn each_call_is_counted_once_by_caller_server_backend_and_outcome() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (buyer, thief, answered) = scenario(namespace).await?;
        let calls = buyer.call(ROOT, &[&format!("--count={CALLS}"), "--concurrency=4"]).await?;
        calls.must_all_be(200)?;
        thief.call(ROOT, &[&format!("--count={REFUSED}")]).await?.must_all_be(403)?;
        let expected = [answered + CALLS, answered + CALLS, 1 + REFUSED];
        until("every call to be counted", COUNTED, async || {
            let now = counted(namespace).await?;
            anyhow::ensure!(now == expected, "{now:?}, expected {expected:?}");
            Ok(())
        })
        .await?;

        let by_backend = items(namespace, "trafficsplits/shop").await?;
        let of =
            |name: &str| count(by_backend.iter().filter(|it| it["backend"]["name"] == name), "success_count");
        let (one, two) = (of("shop-v1"), of("shop-v2"));
        println!("{CALLS} calls and {REFUSED} refused ones counted; backends {one} and {two}");
        anyhow::ensure!(one + two == expected[0], "{one} + {two} of {}", expected[0]);
        anyhow::ensure!((2..=5).contains(&(one / two.max(1))), "weights are 3:1: {one} and {two}");

        let callers = items(namespace, "deployments/shop-v1/edges").await?;
        let from_buyer = edges(&callers, "from", "Deployment", "buyer");
        anyhow::ensure!(count(from_buyer, "success_count") > 0, "{callers:#?}");
        let servers = items(namespace, "deployments/buyer/edges").await?;
        let to_both = ["shop-v1", "shop-v2"]
            .map(|name| count(edges(&servers, "to", "Deployment", name), "success_count"));
        anyhow::ensure!(to_both == [one, two], "{to_both:?} and {one}, {two}");
        Ok(())
    })
    .await
}
