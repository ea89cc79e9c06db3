//! Tests MetricsPolicy in a real cluster: calls are counted by route from its creation until its deletion, with no
//! listener of the server's proxy replaced.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use serde_json::Value;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, everything, route_group, service, shop, target},
    until, with_temp_ns,
};

/// Time limit for figures to arrive: a few pushes, on a machine with other load.
const COUNTED: Duration = Duration::from_mins(1);
/// Time limit for a caller to see the effect of an edit.
const EFFECT: Duration = Duration::from_secs(20);
const BOOKS: &str = "http://shop:14001/books";
const OTHER: &str = "http://shop:14001/other";
/// Statistic of Envoy that counts new listeners.
const ADDED: &str = "envoy_listener_manager_listener_added{";
/// Statistics of Envoy that count replaced listeners.
const REPLACED: [&str; 3] = [
    "envoy_listener_manager_listener_modified{",
    "envoy_listener_manager_listener_in_place_updated{",
    "envoy_listener_manager_listener_removed{",
];

const POLICY: &str = "
apiVersion: smidge.mesh/v1alpha1
kind: MetricsPolicy
metadata: {name: shop}
spec:
  target: {kind: Deployment, name: shop}
  rules: [{kind: HTTPRouteGroup, name: books}]
";

/// Returns the number of calls that succeeded, by the match that they met; empty for those that met none.
async fn routes(namespace: &Namespace) -> anyhow::Result<BTreeMap<String, u64>> {
    let path = format!(
        "/apis/metrics.smi-spec.io/v1alpha2/namespaces/{}/deployments/shop/routes?window=30m",
        namespace.name
    );
    let answer: Value = serde_json::from_str(&namespace.kubectl(&format!("get --raw {path}")).await?)?;
    let items = answer.get("items").and_then(Value::as_array).context("no items")?;
    let route = |item: &Value| {
        let metrics = item.get("metrics")?.as_array()?;
        let metric = metrics.iter().find(|it| it.get("name").is_some_and(|name| name == "success_count"))?;
        let name = item.pointer("/route/match").and_then(Value::as_str).unwrap_or_default();
        Some((name.to_owned(), metric.get("value")?.as_str()?.parse().ok()?))
    };
    items.iter().map(|item| route(item).with_context(|| format!("unexpected item {item}"))).collect()
}

/// Waits until the routes have these counts.
async fn counted(namespace: &Namespace, expected: &[(&str, u64)]) -> anyhow::Result<()> {
    let expected: BTreeMap<String, u64> =
        expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    until("every call to be counted by route", COUNTED, async || {
        let now = routes(namespace).await?;
        anyhow::ensure!(now == expected, "{now:?}, expected {expected:?}");
        Ok(())
    })
    .await
}

/// Returns the number of listeners that the proxy of a pod has replaced.
async fn replaced(namespace: &Namespace, pod: &Pod) -> anyhow::Result<f64> {
    let path =
        format!("/api/v1/namespaces/{}/pods/{}:15090/proxy/stats/prometheus", namespace.name, pod.name);
    let page = namespace.kubectl(&format!("get --raw {path}")).await?;
    let sum = |names: &[&str]| -> f64 {
        let lines = page.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    anyhow::ensure!(sum(&[ADDED]) > 0.0, "no statistics of listeners:\n{page}");
    // The page leaves out those that are still 0.
    Ok(sum(&REPLACED))
}

#[tokio::test]
async fn calls_are_counted_by_route_while_a_policy_exists() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let books = route_group("books", "[{name: look, pathRegex: '/books', methods: [GET]}]");
        let access = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
        namespace.apply(&(shop("shop", "shop", "v1") + &service("shop", "shop", HTTP) + &books)).await?;
        namespace.apply(&(caller("buyer") + &access)).await?;
        let (server, buyer) = (Pod::one(namespace, "shop").await?, Pod::one(namespace, "buyer").await?);
        let mut first = 0;
        until("the shop to answer", EFFECT, async || {
            let calls = buyer.call(BOOKS, &["--count=5"]).await?;
            first += calls.served_by.values().sum::<u64>();
            calls.must_all_be(200)
        })
        .await?;
        counted(namespace, &[("", first)]).await?;
        let before = replaced(namespace, &server).await?;

        namespace.apply(POLICY).await?;
        namespace.kubectl("wait metricspolicy/shop --for=condition=Programmed --timeout=20s").await?;
        buyer.call(BOOKS, &["--count=50"]).await?.must_all_be(200)?;
        buyer.call(OTHER, &["--count=7"]).await?;
        counted(namespace, &[("look", 50), ("", first + 7)]).await?;

        namespace.remove(POLICY).await?;
        until("the proxy to count no route", EFFECT, async || {
            buyer.call(BOOKS, &["--count=1"]).await?;
            let now = routes(namespace).await?;
            anyhow::ensure!(now.get("").is_some_and(|count| *count > first + 7), "{now:?}");
            Ok(())
        })
        .await?;
        let after = replaced(namespace, &server).await?;
        anyhow::ensure!(
            before.total_cmp(&after).is_eq(),
            "{before} listeners were replaced before, {after} after"
        );
        println!("50 calls by route, {} without; {after} listeners replaced, as before", first + 7);
        Ok(())
    })
    .await
}
