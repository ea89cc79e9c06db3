//! Tests that clients verify servers: a server at a Service's address that is none of its ServiceAccounts receives no
//! request.

use std::time::Duration;

use smidge_e2e::{
    Pod,
    bookstore::{EVERYTHING, HTTP, caller, deployment, everything, service, shop, target},
    node::{self, Disturbance},
    until, with_temp_ns,
};

const EFFECT: Duration = Duration::from_secs(20);
const BOOKS: &str = "http://shop:14001/books";

#[tokio::test]
async fn whoever_steals_a_services_address_is_refused_by_the_client() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        // The impostor is a member of the mesh, and allows the buyer: only the client can refuse it.
        namespace.apply(&(shop("shop", "shop", "v1") + &shop("impostor", "impostor", "impostor"))).await?;
        namespace.apply(&(caller("buyer") + &everything())).await?;
        namespace.apply(&target("shop", "shop", &["buyer"], EVERYTHING)).await?;
        namespace.apply(&target("impostor", "impostor", &["buyer"], EVERYTHING)).await?;
        let (shop, impostor) = (Pod::one(namespace, "shop").await?, Pod::one(namespace, "impostor").await?);
        let buyer = Pod::one(namespace, "buyer").await?;
        for name in ["shop", "impostor"] {
            let url = format!("http://{name}:{HTTP}/books");
            until(&format!("the buyer to reach {name}"), EFFECT, async || {
                buyer.call(&url, &[]).await?.must_all_be(200)
            })
            .await?;
        }

        // In every family: a client that meets an impostor at one address of a pod calls it at the other one.
        let mut stolen = Vec::new();
        for (from, to) in shop.addresses().await?.iter().zip(impostor.addresses().await?) {
            let Some(of_family) = Disturbance::redirect(from, HTTP, &to)? else { return Ok(()) };
            stolen.push(of_family);
        }
        for address in shop.addresses().await? {
            // Connections between the proxies that were open before would continue to the real shop.
            node::run(&["sh", "-c", &format!("conntrack -D -p tcp -d {address} --dport {HTTP} || true")])?;
        }
        let calls = until("new connections to meet the impostor", EFFECT, async || {
            let calls = buyer.call(BOOKS, &["--count=20", "--new-connections"]).await?;
            anyhow::ensure!(!calls.status.contains_key(&200), "{calls:?}");
            Ok(calls)
        })
        .await?;
        anyhow::ensure!(calls.served_by.is_empty(), "the impostor was heard: {calls:?}");
        anyhow::ensure!(calls.only_status() == Some(503), "the client did not answer 503: {calls:?}");
        // The name was wrong, not the path: the connection reached the impostor, and the impostor was not accepted as
        // the shop.
        let refused = buyer.proxy_metrics().await?.sum_of("ssl_fail_verify_san", "/shop/")?;
        anyhow::ensure!(refused > 0.0, "the client never saw a wrong name: {refused}");
        drop(stolen);
        until("the shop to be reached again", EFFECT, async || buyer.call(BOOKS, &[]).await?.must_all_be(200))
            .await
    })
    .await
}

#[tokio::test]
async fn a_pod_of_another_account_behind_the_selector_serves_nobody() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&(shop("shop", "shop", "v1") + &caller("buyer"))).await?;
        // The same label as the Service selects, but another account; no client has a permission for that account.
        let labels = "{app: impostor, serves: shop}";
        let args = ["bookstore", "--name", "impostor"];
        namespace.apply(&deployment("impostor", "impostor", labels, "", &args, HTTP)).await?;
        let selects_both = service("shop", "shop", HTTP).replace("{app: shop}", "{serves: shop}");
        let shop =
            shop("shop", "shop", "v1").replace("labels: {app: shop}", "labels: {app: shop, serves: shop}");
        namespace.apply(&(shop + &selects_both)).await?;
        namespace.apply(&(everything() + &target("shop", "shop", &["buyer"], EVERYTHING))).await?;
        Pod::one(namespace, "impostor").await?;
        let buyer = Pod::one(namespace, "buyer").await?;
        until("the buyer to reach the shop", EFFECT, async || {
            let calls = buyer.call(BOOKS, &[]).await?;
            anyhow::ensure!(calls.served_by.contains_key("v1"), "{calls:?}");
            Ok(())
        })
        .await?;
        let calls = buyer.call(BOOKS, &["--count=200", "--concurrency=4", "--new-connections"]).await?;
        anyhow::ensure!(!calls.served_by.contains_key("impostor"), "the impostor was heard: {calls:?}");
        anyhow::ensure!(calls.served_by.contains_key("v1"), "{calls:?}");
        // The connection reached the impostor, whose name is none that the client accepts for the shop.
        let refused = buyer.proxy_metrics().await?.sum_of("ssl_fail_verify_san", "/shop/")?;
        anyhow::ensure!(refused > 0.0, "the client never saw a wrong name: {refused}");
        Ok(())
    })
    .await
}

/// The name of a headless Service resolves to its pods: a client that connects to one of them must reach that one.
#[tokio::test]
async fn a_headless_service_gives_the_very_pod_that_was_dialled() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let member = |app: &str| {
            let labels = format!("{{app: {app}, part-of: shop}}");
            deployment(app, "shop", &labels, "", &["bookstore", "--name", app], HTTP)
        };
        let headless = service("shop", "", HTTP)
            .replace("selector: {app: }", "clusterIP: None\n  selector: {part-of: shop}");
        let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
        namespace.apply(&(member("one") + &member("two") + &headless + &caller("buyer") + &policy)).await?;
        let buyer = Pod::one(namespace, "buyer").await?;
        for app in ["one", "two"] {
            let pod = Pod::one(namespace, app).await?;
            let url = format!("http://{}/books", pod.at(HTTP));
            until(&format!("20 answers from {app} alone"), EFFECT, async || {
                let calls = buyer.call(&url, &["--count=20", "--concurrency=4"]).await?;
                calls.must_all_be(200)?;
                anyhow::ensure!(calls.served_by.get(app) == Some(&20), "{calls:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    })
    .await
}
