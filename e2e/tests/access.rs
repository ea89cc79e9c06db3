//! Tests access control: a request that a TrafficTarget allows gets through, everything else is refused, and changes of
//! policy take effect on open connections as the design describes.

use std::time::Duration;

use smidge_e2e::{
    Namespace, Pod,
    bookstore::{
        EVERYTHING, HTTP, TCP, caller, everything, outsider, route_group, shop, store, target, tcp_route,
    },
    report::{Calls, Dialled, parse},
    until, with_temp_ns,
};

/// Time limit for a caller to see the effect of a change of policy, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(20);
/// Time limit for an open TCP connection to end once its permission is revoked.
const REVOKED: Duration = Duration::from_secs(30);

const BOOKS: &str = "http://shop:14001/books";

async fn allowed(pod: &Pod, url: &str) -> anyhow::Result<()> {
    until(&format!("{} to be allowed {url}", pod.name), EFFECT, async || {
        let calls = pod.call(url, &[]).await?;
        anyhow::ensure!(calls.only_status() == Some(200), "{calls:?}");
        Ok(())
    })
    .await
}

async fn refused(pod: &Pod, url: &str) -> anyhow::Result<Calls> {
    until(&format!("{} to be refused {url}", pod.name), EFFECT, async || {
        let calls = pod.call(url, &[]).await?;
        anyhow::ensure!(calls.only_status() == Some(403), "{calls:?}");
        Ok(calls)
    })
    .await
}

async fn answered(pod: &Pod, address: &str) -> anyhow::Result<()> {
    until(&format!("{} to be answered by {address}", pod.name), EFFECT, async || {
        let dialled = pod.dial_store(address).await?;
        anyhow::ensure!(dialled.answered == 1, "{dialled:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_buyer_gets_200_and_the_thief_a_403_that_names_the_policy() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&(shop("shop", "shop", "v1") + &caller("buyer") + &caller("thief"))).await?;
        let routes = "[{name: look, pathRegex: /books, methods: [GET]}, {name: buy, pathRegex: /buy, methods: [POST]}]";
        let rules = "[{kind: HTTPRouteGroup, name: shop, matches: [look, buy]}]";
        namespace.apply(&(route_group("shop", routes) + &target("shop", "shop", &["buyer"], rules))).await?;
        // A caller with a permission for something else: its requests reach the shop's proxy.
        let rules = "[{kind: HTTPRouteGroup, name: echo}]";
        let echo = route_group("echo", "[{name: echo, pathRegex: /echo}]") + &target("echo", "shop", &["reader"], rules);
        namespace.apply(&(caller("reader") + &echo)).await?;
        Pod::one(namespace, "shop").await?;
        let (buyer, thief) = (Pod::one(namespace, "buyer").await?, Pod::one(namespace, "thief").await?);
        let reader = Pod::one(namespace, "reader").await?;

        allowed(&buyer, BOOKS).await?;
        buyer.call(BOOKS, &["--count=500", "--concurrency=4"]).await?.must_all_be(200)?;
        buyer.call("http://shop:14001/buy", &["--method=POST"]).await?.must_all_be(200)?;
        let calls = thief.call(BOOKS, &["--count=500", "--concurrency=4"]).await?;
        calls.must_all_be(403)?;
        names_the_policy(&calls)?;

        // Permissions are not mixed: each caller may do what its own target allows, and the shop names the caller that
        // it refuses.
        allowed(&reader, "http://shop:14001/echo").await?;
        let calls = reader.call(BOOKS, &["--count=20"]).await?;
        calls.must_all_be(403)?;
        names_the_policy(&calls)?;
        let id = format!("spiffe://cluster.local/ns/{}/sa/reader", namespace.name);
        anyhow::ensure!(calls.samples.values().any(|body| body.contains(&id)), "{id} is not named: {calls:?}");

        // A request that the target does not list is refused to the buyer as well, in every spelling of the path.
        for (path, method, status) in [
            ("/echo", "GET", 403),
            ("/books", "DELETE", 403),
            ("/buy", "GET", 403),
            ("/books/../echo", "GET", 403),
            ("//books/..//echo", "GET", 403),
            ("/books%2f..%2fecho", "GET", 400),
            ("/books?also=/echo", "GET", 200),
        ] {
            let calls = buyer.call(&format!("http://shop:14001{path}"), &["--method", method]).await?;
            anyhow::ensure!(calls.only_status() == Some(status), "{method} {path} is not {status}: {calls:?}");
        }
        Ok(())
    })
    .await
}

/// Checks that the body of a 403 names the mesh and the reason, for a reader without access to the mesh.
fn names_the_policy(calls: &Calls) -> anyhow::Result<()> {
    let body = calls.samples.get(&403).map(String::as_str).unwrap_or_default();
    anyhow::ensure!(
        body.contains("smidge") && body.contains("TrafficTarget"),
        "the body does not say who refused: {body:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_pod_without_a_proxy_gets_no_byte_over_plaintext() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let open = shop("open", "open", "open").replacen(
            "metadata: {labels: {app: open}",
            "metadata: {labels: {app: open, smidge.mesh/inject: disabled}",
            1,
        );
        namespace.apply(&(shop("shop", "shop", "v1") + &open + &outsider("outsider"))).await?;
        // Even a target that allows every source allows no client that cannot prove its identity.
        namespace
            .apply(&(everything() + &target("shop", "shop", &["outsider", "default"], EVERYTHING)))
            .await?;
        let (shop, outsider) = (Pod::one(namespace, "shop").await?, Pod::one(namespace, "outsider").await?);
        let open = Pod::one(namespace, "open").await?;

        // A plain server is read successfully in the same way, so the lack of an answer below is meaningful.
        let found = read_bytes(&outsider, &open.at(HTTP)).await?;
        anyhow::ensure!(found.answered > 0, "a plain server was not heard either: {found:?}");

        for address in [format!("shop:{HTTP}"), shop.at(HTTP)] {
            let heard = read_bytes(&outsider, &address).await?;
            anyhow::ensure!(heard.answered == 0, "{address} answered a plaintext caller: {heard:?}");
            let calls = outsider.call(&format!("http://{address}/books"), &["--count=20"]).await?;
            anyhow::ensure!(calls.status.is_empty(), "{address} answered a plaintext caller: {calls:?}");
        }
        Ok(())
    })
    .await
}

/// Sends a whole request as bytes, and counts the lines of the response.
async fn read_bytes(pod: &Pod, address: &str) -> anyhow::Result<Dialled> {
    let request = "GET /books HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r";
    parse(
        &pod.run(&["bookstore", "dial", "--timeout-ms=3000", "--address", address, "--line", request])
            .await?,
    )
}

#[tokio::test]
async fn a_tcp_route_allows_and_refuses() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&(store() + &caller("buyer") + &caller("thief"))).await?;
        let rules = "[{kind: TCPRoute, name: store}]";
        namespace
            .apply(&(tcp_route("store", &format!("[{TCP}]")) + &target("store", "store", &["buyer"], rules)))
            .await?;
        Pod::one(namespace, "store").await?;
        let (buyer, thief) = (Pod::one(namespace, "buyer").await?, Pod::one(namespace, "thief").await?);

        answered(&buyer, "store:14003").await?;
        for _ in 0..10 {
            let dialled = thief.dial_store("store:14003").await?;
            anyhow::ensure!(dialled.answered == 0, "the thief was answered: {dialled:?}");
            let dialled = buyer.dial_store("store:14003").await?;
            anyhow::ensure!(dialled.answered == 1, "the buyer was not answered: {dialled:?}");
        }

        // The port is part of the permission.
        namespace.apply(&tcp_route("store", "[9]")).await?;
        until("the buyer to be refused another port", REVOKED, async || {
            let dialled = buyer.dial_store("store:14003").await?;
            anyhow::ensure!(dialled.answered == 0, "{dialled:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_policy_that_grows_closes_nothing() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (buyer, other) = traders(namespace).await?;
        let dialling = buyer.keep_dialling("store:14003").await?;
        let calling = buyer.keep_calling(BOOKS, &["--concurrency=4", "--rate=100"]).await?;

        // Adds targets, for other callers and for the same one, and a group and a route that allow more.
        namespace.apply(&target("shop-too", "shop", &["other"], EVERYTHING)).await?;
        allowed(&other, BOOKS).await?;
        namespace.apply(&target("store-too", "store", &["other"], "[{kind: TCPRoute, name: store}]")).await?;
        answered(&other, "store:14003").await?;
        let wider = "[{name: all, pathRegex: '.*', methods: ['*']}, {name: more, pathRegex: /more, headers: [{x: y}]}]";
        namespace.apply(&route_group("everything", wider)).await?;
        namespace.apply(&tcp_route("store", &format!("[{TCP}, 14010]"))).await?;
        namespace.apply(&target("shop", "shop", &["buyer", "other", "third"], EVERYTHING)).await?;
        namespace.apply(&target("store", "store", &["buyer", "third"], "[{kind: TCPRoute, name: store}]")).await?;
        namespace.apply(&(caller("third") + &target("third", "third", &["buyer"], EVERYTHING))).await?;
        let third = Pod::one(namespace, "third").await?;
        allowed(&third, BOOKS).await?;
        answered(&third, "store:14003").await?;

        let calls = calling.calls().await?;
        calls.must_all_be(200)?;
        anyhow::ensure!(calls.connections == 4, "HTTP connections were replaced: {calls:?}");
        let dialled = dialling.dialled().await?;
        anyhow::ensure!(dialled.end == "held", "a TCP connection was closed: {dialled:?}");
        anyhow::ensure!(dialled.answered == dialled.asked, "a question was lost: {dialled:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_removed_target_ends_tcp_within_30_s_and_http_at_once() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (buyer, _) = traders(namespace).await?;
        let dialling = buyer.keep_dialling("store:14003").await?;
        let calling = buyer.keep_calling(BOOKS, &["--concurrency=4", "--rate=100"]).await?;

        namespace.remove(&target("shop", "shop", &["buyer"], EVERYTHING)).await?;
        refused(&buyer, BOOKS).await?;
        // Connections that were open before do not bypass the policy: from here on, everything is refused.
        let calls = buyer.call(BOOKS, &["--count=200", "--concurrency=4"]).await?;
        calls.must_all_be(403)?;
        names_the_policy(&calls)?;
        let calls = calling.calls().await?;
        anyhow::ensure!(calls.failures.is_empty(), "requests were cut off rather than refused: {calls:?}");
        anyhow::ensure!(calls.status.keys().all(|status| [200, 403].contains(status)), "{calls:?}");
        anyhow::ensure!(calls.status.contains_key(&403), "open connections were never refused: {calls:?}");

        namespace.remove(&target("store", "store", &["buyer"], "[]")).await?;
        let dialled: Dialled = parse(&dialling.ended(REVOKED).await?)?;
        anyhow::ensure!(["closed", "reset"].contains(&dialled.end.as_str()), "{dialled:?}");
        let dialled = buyer.dial_store("store:14003").await?;
        anyhow::ensure!(dialled.answered == 0, "a new connection was answered: {dialled:?}");
        Ok(())
    })
    .await
}

/// Creates a shop and a store that the buyer may call and `other` may not; returns both callers.
async fn traders(namespace: &Namespace) -> anyhow::Result<(Pod, Pod)> {
    namespace.apply(&(shop("shop", "shop", "v1") + &store() + &caller("buyer") + &caller("other"))).await?;
    namespace.apply(&(everything() + &target("shop", "shop", &["buyer"], EVERYTHING))).await?;
    let rules = "[{kind: TCPRoute, name: store}]";
    namespace
        .apply(&(tcp_route("store", &format!("[{TCP}]")) + &target("store", "store", &["buyer"], rules)))
        .await?;
    Pod::one(namespace, "shop").await?;
    Pod::one(namespace, "store").await?;
    let (buyer, other) = (Pod::one(namespace, "buyer").await?, Pod::one(namespace, "other").await?);
    allowed(&buyer, BOOKS).await?;
    answered(&buyer, "store:14003").await?;
    Ok((buyer, other))
}

#[tokio::test]
async fn the_access_label_of_the_namespace_opens_and_closes_it() -> anyhow::Result<()> {
    with_temp_ns(&[("smidge.mesh/access", "permissive")], async |namespace| {
        namespace.apply(&(shop("shop", "shop", "v1") + &caller("anyone"))).await?;
        Pod::one(namespace, "shop").await?;
        let anyone = Pod::one(namespace, "anyone").await?;
        allowed(&anyone, BOOKS).await?;
        namespace.label(&[("smidge.mesh/inject", "enabled")]).await?;
        names_the_policy(&refused(&anyone, BOOKS).await?)?;
        namespace.label(&[("smidge.mesh/inject", "enabled"), ("smidge.mesh/access", "permissive")]).await?;
        allowed(&anyone, BOOKS).await
    })
    .await
}
