//! Tests membership in the mesh: each proxy has a user of its own, a Service keeps its destination when its injected
//! pods go, containers that are added later are reviewed, and a node full of injected pods starts
//! (`SMIDGE_FULL_NODE=110`, part of the soak).

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1 as core;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, caller, everything, shop, target},
    pod::is_ready,
    until, with_temp_ns,
};

/// Time limit for a caller to see the effect of a change, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(30);
/// Time limit for a node full of pods to start: a few start at a time.
const FULL: Duration = Duration::from_mins(30);

const BOOKS: &str = "http://shop:14001/books";

fn proxy_user(pod: &core::Pod) -> anyhow::Result<i64> {
    let spec = pod.spec.as_ref().context("a pod without a spec")?;
    let proxy = spec.init_containers.iter().flatten().find(|it| it.name == "smidge-proxy");
    let context = proxy.and_then(|it| it.security_context.as_ref()).context("no proxy")?;
    anyhow::ensure!(context.run_as_group == Some(1337), "the proxy's group is {:?}", context.run_as_group);
    context.run_as_user.context("the proxy has no user")
}

/// Builds pods of one Deployment, so that no name distinguishes them at admission.
fn replicas(app: &str, count: usize) -> String {
    caller(app).replacen("spec:\n  selector", &format!("spec:\n  replicas: {count}\n  selector"), 1)
}

async fn users(namespace: &Namespace, app: &str) -> anyhow::Result<BTreeSet<i64>> {
    let pods = namespace.pods().list(&ListParams::default().labels(&format!("app={app}"))).await?;
    pods.items.iter().map(proxy_user).collect()
}

#[tokio::test]
async fn pods_of_a_node_have_proxies_of_different_users() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&replicas("many", 2)).await?;
        Pod::all(namespace, "many", 2).await?;
        let users = users(namespace, "many").await?;
        anyhow::ensure!(users.len() == 2 && !users.contains(&1337), "{users:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_service_whose_injected_pods_went_is_not_called_in_plaintext() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let of_shop = shop("shop", "shop", "v1");
        let outside = shop("plain", "plain", "v1").replacen(
            "metadata: {labels: {app: plain}",
            "metadata: {labels: {app: shop, smidge.mesh/inject: disabled}",
            1,
        );
        let outside = outside.replacen(
            "matchLabels: {app: plain}",
            "matchLabels: {app: shop, smidge.mesh/inject: disabled}",
            1,
        );
        namespace.apply(&(of_shop.clone() + &caller("buyer") + &everything())).await?;
        namespace.apply(&target("shop", "shop", &["buyer"], EVERYTHING)).await?;
        let buyer = Pod::one(namespace, "buyer").await?;
        Pod::one(namespace, "shop").await?;
        until("the buyer to get through", EFFECT, async || buyer.call(BOOKS, &[]).await?.must_all_be(200))
            .await?;
        namespace.apply(&outside).await?;
        Pod::all(namespace, "shop", 2).await?;
        let gone = of_shop.replacen("spec:\n  selector", "spec:\n  replicas: 0\n  selector", 1);
        namespace.apply(&gone).await?;
        until("calls to be answered with 503", EFFECT, async || {
            let calls = buyer.call(BOOKS, &["--count=20"]).await?;
            let body = calls.samples.get(&503).cloned().unwrap_or_default();
            anyhow::ensure!(body.contains("smidge: no pod in the mesh"), "{calls:?}");
            calls.must_all_be(503)
        })
        .await?;
        // As long as only the pod outside the mesh exists, no call is answered by it.
        for _ in 0..5 {
            buyer.call(BOOKS, &["--count=20"]).await?.must_all_be(503)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_ephemeral_container_does_not_get_the_proxys_group() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&caller("buyer")).await?;
        let buyer = Pod::one(namespace, "buyer").await?;
        let patch = json!({"spec": {"ephemeralContainers": [{
            "name": "debug", "image": "smidge.local/bookstore:dev", "securityContext": {"runAsGroup": 1337},
        }]}});
        let refused = namespace
            .pods()
            .patch_ephemeral_containers(&buyer.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        let error = refused.err().context("the container was let in")?.to_string();
        anyhow::ensure!(error.contains("group 1337"), "{error}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_node_full_of_injected_pods_starts() -> anyhow::Result<()> {
    let count = std::env::var("SMIDGE_FULL_NODE").ok().map(|text| text.parse()).transpose()?;
    let Some(count) = count else { return Ok(()) };
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&replicas("many", count)).await?;
        until(&format!("{count} injected pods to be ready"), FULL, async || {
            let pods = namespace.pods().list(&ListParams::default().labels("app=many")).await?;
            let ready = pods.items.iter().filter(|pod| is_ready(pod)).count();
            let nodes: BTreeSet<_> =
                pods.items.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
            anyhow::ensure!(ready == count, "{ready} of {count} are ready, on {nodes:?}");
            Ok(())
        })
        .await?;
        let users = users(namespace, "many").await?;
        // Two pods with the same user are acceptable; sixty-four would not be.
        anyhow::ensure!(users.len() * 10 >= count * 9, "{count} proxies have {} users", users.len());
        Ok(())
    })
    .await
}
