//! Tests ports that declare no protocol: rules and splits make them what they are for, under every setting of
//! `undeclaredPorts`, and detection serves the rest.
//!
//! These tests change the settings of the whole mesh, so `make test` runs them after the others, one at a time.

use std::time::Duration;

use serde_json::json;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{HTTP, TCP, caller, route_group, service, shop, split, store, target, tcp_route},
    settings::{self, with_settings},
    until, with_temp_ns,
};

/// Time limit for a caller to see the effect of an edit, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(20);
/// Maximum difference between a measured share and the weight, in percentage points.
const TOLERANCE: f64 = 8.0;

const BOOKS: &str = "http://shop:14001/books";
const OPEN: &str = "http://open:14001/books";
const STORE: &str = "store:14003";

/// Takes the names and the protocols out of the ports of Services.
fn undeclared(manifests: &str) -> String {
    [("http", HTTP), ("tcp", TCP)].iter().fold(manifests.to_owned(), |text, (protocol, port)| {
        let declared = format!("{{name: {protocol}, port: {port}, appProtocol: {protocol}}}");
        assert!(text.contains(&declared), "{declared} is not in {text}");
        text.replace(&declared, &format!("{{port: {port}}}"))
    })
}

/// Creates a split shop with HTTP rules, a store with TCP rules, and a shop without rules.
async fn shops(namespace: &Namespace) -> anyhow::Result<(Pod, Pod)> {
    let shops = shop("v1", "shop", "v1") + &shop("v2", "shop", "v2") + &shop("open", "open", "open");
    let root = service("shop", "v1", HTTP);
    namespace.apply(&undeclared(&(shops + &root + &store()))).await?;
    let look = "[{name: look, pathRegex: /books, methods: [GET]}]";
    let http = "[{kind: HTTPRouteGroup, name: look}]";
    let tcp = "[{kind: TCPRoute, name: store}]";
    let rules = route_group("look", look)
        + &target("shop", "shop", &["buyer"], http)
        + &tcp_route("store", &format!("[{TCP}]"))
        + &target("store", "store", &["buyer"], tcp)
        + &split("v1alpha4", "shop", &[("v1", 1), ("v2", 1)]);
    namespace.apply(&(caller("buyer") + &caller("thief") + &rules)).await?;
    for app in ["v1", "v2", "open", "store"] {
        Pod::one(namespace, app).await?;
    }
    Ok((Pod::one(namespace, "buyer").await?, Pod::one(namespace, "thief").await?))
}

/// Sets `undeclaredPorts`, and waits until the port without rules shows it: where it is TCP, a refusal has no words.
async fn set(namespace: &Namespace, word: &str, thief: &Pod) -> anyhow::Result<()> {
    settings::set(namespace, json!({"undeclaredPorts": word})).await?;
    let expected = (word != "tcp").then_some(403);
    until(&format!("undeclaredPorts: {word}"), EFFECT, async || {
        let calls = thief.call(OPEN, &[]).await?;
        anyhow::ensure!(calls.only_status() == expected, "{calls:?}");
        Ok(())
    })
    .await
}

/// Checks the verdicts and the shares of the ports that have rules.
async fn as_declared(buyer: &Pod, thief: &Pod) -> anyhow::Result<()> {
    until("the buyer to be allowed", EFFECT, async || {
        buyer.call(BOOKS, &[]).await?.must_all_be(200)?;
        anyhow::ensure!(buyer.dial_store(STORE).await?.answered == 1, "the store does not answer");
        Ok(())
    })
    .await?;
    buyer.call("http://shop:14001/echo", &["--count=20"]).await?.must_all_be(403)?;
    thief.call(BOOKS, &["--count=20"]).await?.must_all_be(403)?;
    anyhow::ensure!(thief.dial_store(STORE).await?.answered == 0, "the store answers the thief");
    // One connection: a split of connections would give all requests to one version.
    let calls = buyer.call(BOOKS, &["--count=1000", "--concurrency=1"]).await?;
    calls.must_all_be(200)?;
    anyhow::ensure!((calls.share("v1") - 50.0).abs() <= TOLERANCE, "not half and half: {calls:?}");
    Ok(())
}

/// Gives the port without rules rules of both kinds, so that it is detected, and checks that each connection is judged as
/// what it is: the callers' proxies tell the server's by ALPN.
async fn judged_as_detected(namespace: &Namespace, buyer: &Pod) -> anyhow::Result<()> {
    let http = "[{kind: HTTPRouteGroup, name: look}]";
    let tcp = "[{kind: TCPRoute, name: open}]";
    let rules = target("open-http", "open", &["buyer"], http)
        + &tcp_route("open", &format!("[{HTTP}]"))
        + &target("open-tcp", "open", &["reader"], tcp);
    namespace.apply(&rules).await?;
    until("the buyer to be allowed at the detected port", EFFECT, async || {
        buyer.call(OPEN, &["--count=20", "--new-connections"]).await?.must_all_be(200)
    })
    .await?;
    buyer.call("http://open:14001/echo", &["--count=20", "--new-connections"]).await?.must_all_be(403)?;
    buyer.call(OPEN, &["--http2", "--count=20"]).await?.must_all_be(200)?;
    let calls = buyer.call("http://open:14001/echo", &["--http2", "--count=20"]).await?;
    calls.must_all_be(403)
}

#[tokio::test]
async fn undeclared_ports_are_as_declared_ones_under_every_setting() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        with_settings(namespace, async || {
            let (buyer, thief) = shops(namespace).await?;
            for word in ["detect", "http", "tcp", "detect"] {
                set(namespace, word, &thief).await?;
                as_declared(&buyer, &thief).await?;
            }
            judged_as_detected(namespace, &buyer).await?;
            // With every caller allowed, detection passes both.
            namespace
                .label(&[("smidge.mesh/inject", "enabled"), ("smidge.mesh/access", "permissive")])
                .await?;
            until("every caller to be allowed", EFFECT, async || {
                thief.call(OPEN, &["--count=20"]).await?.must_all_be(200)?;
                let answered = thief.dial_store(STORE).await?.answered;
                anyhow::ensure!(answered == 1, "the store does not answer the thief");
                Ok(())
            })
            .await
        })
        .await
    })
    .await
}
