//! Tests switches of the access mode of one namespace while requests flow: each direction takes effect, and a caller
//! that is allowed in both modes is not affected; audit logs the callers that enforcement would refuse. `disruption`
//! switches the whole mesh.

use std::time::Duration;

use kube::api::LogParams;
use smidge_e2e::{
    Pod,
    bookstore::{EVERYTHING, caller, everything, shop, target},
    switch::in_every_direction,
    until, with_temp_ns,
};

/// Time limit for a caller to see the effect of a switch, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(20);
/// Time limit for a log line: the proxy writes its access log every ten seconds.
const LOGGED: Duration = Duration::from_secs(30);

const BOOKS: &str = "http://shop:14001/books";

#[tokio::test]
async fn switches_in_every_direction_lose_no_allowed_request() -> anyhow::Result<()> {
    with_temp_ns(&[("smidge.mesh/access", "enforce")], async |namespace| {
        in_every_direction(namespace, async |mode| {
            namespace.label(&[("smidge.mesh/inject", "enabled"), ("smidge.mesh/access", mode)]).await
        })
        .await
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
        // Before the proxy had the target, the buyer had no permission either; its later requests are not logged.
        let about_buyer: Vec<_> = log.lines().filter(policy_is_there).collect();
        anyhow::ensure!(about_buyer.iter().all(|said| said.contains("policies=none")), "{about_buyer:?}");
        Ok(())
    })
    .await
}
