//! Tests TrafficSplits: shares follow the weights, moving weights loses no request, and the API versions have the same
//! effect.

use std::time::Duration;

use serde_json::json;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{
        EVERYTHING, HTTP, TCP, caller, everything, named_store, service, shop, split, target, tcp_route,
    },
    report::Calls,
    until, with_temp_ns,
};

/// Time limit for a caller to see the effect of an edit, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(20);
/// Maximum difference between a measured share and the weight, in percentage points.
const TOLERANCE: f64 = 3.0;

const ROOT: &str = "http://shop:14001/books";

/// Creates two versions with a root Service in front, and a buyer that may call them.
async fn two_versions(namespace: &Namespace) -> anyhow::Result<Pod> {
    let root = service("shop", "shop-v1", HTTP);
    namespace.apply(&(shop("shop-v1", "shop", "v1") + &shop("shop-v2", "shop", "v2") + &root)).await?;
    namespace
        .apply(&(caller("buyer") + &everything() + &target("shop", "shop", &["buyer"], EVERYTHING)))
        .await?;
    Pod::one(namespace, "shop-v1").await?;
    Pod::one(namespace, "shop-v2").await?;
    let buyer = Pod::one(namespace, "buyer").await?;
    until("the buyer to reach the shop", EFFECT, async || {
        buyer.call(ROOT, &["--count=5"]).await?.must_all_be(200)
    })
    .await?;
    Ok(buyer)
}

/// Waits until a sample shows about `share` per cent of v1: the edit has taken effect. The exact measurement follows.
async fn arrived(buyer: &Pod, share: f64) -> anyhow::Result<()> {
    until(&format!("a split that gives v1 about {share} %"), EFFECT, async || {
        let calls = buyer.call(ROOT, &["--count=200", "--concurrency=4"]).await?;
        anyhow::ensure!((calls.share("v1") - share).abs() < 12.0, "{calls:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn shares_follow_the_weights_over_ten_thousand_requests() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let buyer = two_versions(namespace).await?;
        for (one, two) in [(100, 0), (50, 50), (1, 3), (0, 100), (90, 10)] {
            let weights = [("shop-v1", one), ("shop-v2", two)];
            namespace.apply(&split("v1alpha4", "shop", &weights)).await?;
            let share = f64::from(one) * 100.0 / f64::from(one + two);
            arrived(&buyer, share).await?;
            let calls = buyer.call(ROOT, &["--count=10000", "--concurrency=8"]).await?;
            println!(
                "weights {one}:{two} → v1 {:.2} % of {} in {:.1} s",
                calls.share("v1"),
                calls.requests,
                calls.seconds
            );
            calls.must_all_be(200)?;
            anyhow::ensure!(
                (calls.share("v1") - share).abs() <= TOLERANCE,
                "{share} % were asked for: {calls:?}"
            );
            // A weight of 0 means no traffic, not little traffic.
            anyhow::ensure!(one > 0 || !calls.served_by.contains_key("v1"), "{calls:?}");
            anyhow::ensure!(two > 0 || !calls.served_by.contains_key("v2"), "{calls:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn two_hundred_flips_under_load_lose_no_request() -> anyhow::Result<()> {
    let count = std::env::var("SMIDGE_FLIPS").ok().and_then(|count| count.parse().ok());
    flips(count.unwrap_or(200), &["--concurrency=8", "--rate=300"]).await
}

/// Flips the split while requests flow, at most once in 50 ms.
async fn flips(count: usize, load: &[&str]) -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let buyer = two_versions(namespace).await?;
        let calling = buyer.keep_calling(ROOT, load).await?;
        let fresh = buyer.keep_calling(ROOT, &["--concurrency=2", "--rate=50", "--new-connections"]).await?;
        let mut rhythm = tokio::time::interval(Duration::from_millis(50));
        let weights = [(100, 0), (0, 100), (50, 50), (0, 100)].into_iter().cycle();
        for (one, two) in weights.take(count) {
            rhythm.tick().await;
            namespace.apply(&split("v1alpha4", "shop", &[("shop-v1", one), ("shop-v2", two)])).await?;
        }
        namespace.apply(&split("v1alpha4", "shop", &[("shop-v1", 0), ("shop-v2", 1)])).await?;
        until("the last flip to be seen", EFFECT, async || {
            let calls = buyer.call(ROOT, &["--count=20"]).await?;
            anyhow::ensure!(calls.served_by.get("v2") == Some(&20), "{calls:?}");
            Ok(())
        })
        .await?;
        for (kind, calls) in [("kept", calling.calls().await?), ("new", fresh.calls().await?)] {
            println!("{count} flips, {kind} connections: {} requests, {:?}", calls.requests, calls.served_by);
            lossless(&calls)?;
        }
        Ok(())
    })
    .await
}

/// Checks that every request was answered with 200, and that both versions had their share: the flips took effect.
fn lossless(calls: &Calls) -> anyhow::Result<()> {
    calls.must_all_be(200)?;
    for version in ["v1", "v2"] {
        anyhow::ensure!(calls.share(version) > 5.0, "{version} had hardly a part: {calls:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_tcp_split_moves_new_connections_and_closes_none() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let stores = named_store("store-v1") + &named_store("store-v2") + &service("store", "store-v1", TCP);
        let policy = tcp_route("store", "[]")
            + &target("store", "store", &["buyer"], "[{kind: TCPRoute, name: store}]");
        namespace.apply(&(stores + &caller("buyer") + &policy)).await?;
        Pod::one(namespace, "store-v1").await?;
        Pod::one(namespace, "store-v2").await?;
        let buyer = Pod::one(namespace, "buyer").await?;
        let mut held = Vec::new();
        for (one, two, who) in
            [(1, 0, Some("store-v1")), (0, 1, Some("store-v2")), (0, 0, None), (5, 0, Some("store-v1"))]
        {
            namespace.apply(&split("v1alpha4", "store", &[("store-v1", one), ("store-v2", two)])).await?;
            until(&format!("weights {one}:{two} to lead to {who:?}"), EFFECT, async || {
                let met = buyer.who("store:14003").await?;
                anyhow::ensure!(met.as_deref() == who, "{met:?}");
                Ok(())
            })
            .await?;
            for _ in 0..10 {
                let met = buyer.who("store:14003").await?;
                anyhow::ensure!(met.as_deref() == who, "weights {one}:{two} led to {met:?}");
            }
            if who.is_some() {
                held.push(buyer.keep_dialling("store:14003").await?);
            }
        }
        for held in held {
            let dialled = held.dialled().await?;
            anyhow::ensure!(dialled.end == "held", "a change of weights closed a connection: {dialled:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nothing_left_is_a_503_that_says_so() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let buyer = two_versions(namespace).await?;
        namespace.apply(&split("v1alpha4", "shop", &[("shop-v1", 0), ("shop-v2", 0)])).await?;
        let calls = until("weights of 0 alone to be a 503", EFFECT, async || {
            let calls = buyer.call(ROOT, &[]).await?;
            anyhow::ensure!(calls.only_status() == Some(503), "{calls:?}");
            Ok(calls)
        })
        .await?;
        let body = calls.samples.get(&503).map(String::as_str).unwrap_or_default();
        anyhow::ensure!(body.contains("smidge"), "the body does not say who answered: {body:?}");

        // A backend that does not exist is left out, and the other backends are not affected.
        namespace.apply(&split("v1alpha4", "shop", &[("shop-v2", 1), ("shop-v9", 9)])).await?;
        until("the backend that exists to get all", EFFECT, async || {
            let calls = buyer.call(ROOT, &["--count=50"]).await?;
            anyhow::ensure!(calls.served_by.get("v2") == Some(&50), "{calls:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn both_api_versions_are_the_same_object_and_neither_loses_a_field() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let cluster = &namespace.cluster;
        let spec = async |version: &str| -> anyhow::Result<serde_json::Value> {
            let version = format!("split.smi-spec.io/{version}");
            let object = cluster.get(&version, "TrafficSplit", &namespace.name, "shop").await?;
            Ok(object.data.get("spec").cloned().unwrap_or_default())
        };
        namespace.apply(&split("v1alpha2", "shop", &[("shop-v1", 30), ("shop-v2", 70)])).await?;
        let expected = json!({"service": "shop", "backends": [
            {"service": "shop-v1", "weight": 30}, {"service": "shop-v2", "weight": 70},
        ]});
        anyhow::ensure!(spec("v1alpha4").await? == expected, "{}", spec("v1alpha4").await?);

        // `matches` came after v1alpha2. A client of the old version that reads and writes back must not drop it, as
        // that would send all traffic where only some of it was meant to go.
        let matches = "
  matches: [{kind: HTTPRouteGroup, name: firefox}]
";
        let with_matches =
            split("v1alpha4", "shop", &[("shop-v1", 0), ("shop-v2", 100)]).replace("\n---", matches);
        namespace.apply(&with_matches).await?;
        let api = cluster.api("split.smi-spec.io/v1alpha2", "TrafficSplit", &namespace.name)?;
        // The operator may write the status between reading and writing, and then a client has to read again.
        until("the old version to be written back", EFFECT, async || {
            let old = api.get("shop").await?;
            Ok(api.replace("shop", &kube::api::PostParams::default(), &old).await?)
        })
        .await?;
        let kept = spec("v1alpha4").await?;
        anyhow::ensure!(
            kept.pointer("/matches/0/name") == Some(&json!("firefox")),
            "`matches` was lost: {kept}"
        );
        Ok(())
    })
    .await
}
