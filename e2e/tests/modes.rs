//! Access modes, switched while requests flow: each direction takes effect, and nobody who is allowed on both sides
//! notices; audit says whom enforcement would refuse.

use std::time::Duration;

use kube::api::LogParams;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, TCP, caller, everything, shop, store, target, tcp_route},
    until, with_temp_ns,
};

/// For how long a switch may take to be seen by a caller, on a machine that does much else.
const EFFECT: Duration = Duration::from_secs(20);
/// The proxy writes its access log every ten seconds.
const LOGGED: Duration = Duration::from_secs(30);

const BOOKS: &str = "http://shop:14001/books";
const STORE: &str = "store:14003";

/// Every direction there is, one after another.
const SWITCHES: [&str; 6] = ["audit", "permissive", "audit", "enforce", "permissive", "enforce"];

/// Labels the namespace, and waits until a caller without a permission meets the mode.
async fn switch(namespace: &Namespace, mode: &str, thief: &Pod) -> anyhow::Result<()> {
    namespace.label(&[("smidge.mesh/inject", "enabled"), ("smidge.mesh/access", mode)]).await?;
    let expected = if mode == "enforce" { 403 } else { 200 };
    until(&format!("{mode} to hold"), EFFECT, async || {
        thief.call(BOOKS, &["--count=5"]).await?.must_all_be(expected)?;
        let is_answered = thief.dial_store(STORE).await?.answered == 1;
        anyhow::ensure!(is_answered == (expected == 200), "the store answers: {is_answered}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn switches_in_every_direction_lose_no_allowed_request() -> anyhow::Result<()> {
    with_temp_ns(&[("smidge.mesh/access", "enforce")], async |namespace| {
        namespace
            .apply(&(shop("shop", "shop", "v1") + &store() + &caller("buyer") + &caller("thief")))
            .await?;
        let rules = "[{kind: TCPRoute, name: store}]";
        let store = tcp_route("store", &format!("[{TCP}]")) + &target("store", "store", &["buyer"], rules);
        namespace.apply(&(everything() + &target("shop", "shop", &["buyer"], EVERYTHING) + &store)).await?;
        for app in ["shop", "store"] {
            Pod::one(namespace, app).await?;
        }
        let (buyer, thief) = (Pod::one(namespace, "buyer").await?, Pod::one(namespace, "thief").await?);
        until("the buyer to be allowed", EFFECT, async || {
            buyer.call(BOOKS, &[]).await?.must_all_be(200)?;
            anyhow::ensure!(buyer.dial_store(STORE).await?.answered == 1, "the store does not answer");
            Ok(())
        })
        .await?;
        switch(namespace, "enforce", &thief).await?;

        let kept = buyer.keep_calling(BOOKS, &["--concurrency=4", "--rate=200"]).await?;
        let fresh = buyer.keep_calling(BOOKS, &["--concurrency=2", "--rate=50", "--new-connections"]).await?;
        for mode in SWITCHES {
            let dialling = buyer.keep_dialling(STORE).await?;
            switch(namespace, mode, &thief).await?;
            // Where enforcement begins, TCP connections end: some of them may no longer be allowed.
            if mode != "enforce" {
                let dialled = dialling.dialled().await?;
                anyhow::ensure!(dialled.end == "held", "to {mode}: a TCP connection ended: {dialled:?}");
            }
            anyhow::ensure!(
                buyer.dial_store(STORE).await?.answered == 1,
                "{mode}: the store does not answer"
            );
        }
        for (kind, calls) in [("kept", kept.calls().await?), ("new", fresh.calls().await?)] {
            println!("{} switches, {kind} connections: {} requests", SWITCHES.len(), calls.requests);
            calls.must_all_be(200)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn audit_says_who_would_be_refused() -> anyhow::Result<()> {
    with_temp_ns(&[("smidge.mesh/access", "audit")], async |namespace| {
        namespace.apply(&(shop("shop", "shop", "v1") + &caller("buyer") + &caller("thief"))).await?;
        namespace.apply(&(everything() + &target("shop", "shop", &["buyer"], EVERYTHING))).await?;
        let shop = Pod::one(namespace, "shop").await?;
        let (buyer, thief) = (Pod::one(namespace, "buyer").await?, Pod::one(namespace, "thief").await?);
        for pod in [&buyer, &thief] {
            until(&format!("{} to get through", pod.name), EFFECT, async || {
                pod.call(BOOKS, &[]).await?.must_all_be(200)
            })
            .await?;
        }
        let id = |account: &str| format!("spiffe://cluster.local/ns/{}/sa/{account}", namespace.name);
        let line = format!(
            "smidge: audit: would be denied: source={} destination={} port=14001 policies={}/shop method=GET \
             path=/books",
            id("thief"),
            id("shop"),
            namespace.name
        );
        let params = LogParams { container: Some("smidge-proxy".to_owned()), ..LogParams::default() };
        let log = until("the shop's proxy to log the thief", LOGGED, async || {
            let log = namespace.pods().logs(&shop.name, &params).await?;
            anyhow::ensure!(log.lines().any(|said| said == line), "{line:?} is not in {log}");
            Ok(log)
        })
        .await?;
        let policy_is_there = |said: &&str| said.contains(&format!("source={} ", id("buyer")));
        // Before the proxy had the target, the buyer had no permission either; what it asked since is not logged.
        let about_buyer: Vec<_> = log.lines().filter(policy_is_there).collect();
        anyhow::ensure!(about_buyer.iter().all(|said| said.contains("policies=none")), "{about_buyer:?}");
        Ok(())
    })
    .await
}
