//! Tests that a namespace joins the mesh and leaves it pod by pod without a failed call: from nothing to strict mTLS and
//! enforced access, and back, while callers inside and outside the mesh call its Service.

use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, everything, outsider, service},
    load::Stream,
    until, with_temp_ns,
};

const EFFECT: Duration = Duration::from_secs(20);
/// Time limit for a rollout of two pods, on a machine with other load.
const ROLLOUT: Duration = Duration::from_mins(3);
const INSIDE: &str = "a caller inside, on new connections,";
const KEPT: &str = "a caller inside, on kept connections,";
const OUTSIDE: &str = "a caller outside, on new connections,";
const INJECT: (&str, &str) = ("smidge.mesh/inject", "enabled");

/// A server as people write one for rollouts without loss: it is sent no signal before its endpoint is gone everywhere.
fn server(name: &str, inject: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 2
  strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
  selector: {{matchLabels: {{app: shop, of: {name}}}}}
  template:
    metadata: {{labels: {{app: shop, of: {name}, smidge.mesh/inject: {inject}}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: shop
          image: smidge.local/bookstore:dev
          imagePullPolicy: IfNotPresent
          args: [bookstore, --name, v1]
          ports: [{{containerPort: {HTTP}}}]
          readinessProbe: {{httpGet: {{path: /healthz, port: {HTTP}}}, periodSeconds: 1}}
          lifecycle: {{preStop: {{sleep: {{seconds: 4}}}}}}
---
"
    )
}

/// Changes the Deployment of the server, and waits until its pods have so many containers each, and are ready.
async fn change(namespace: &Namespace, patch: Value, containers: &[usize]) -> anyhow::Result<()> {
    let deployments = namespace.cluster.api("apps/v1", "Deployment", &namespace.name)?;
    deployments.patch("shop", &PatchParams::default(), &Patch::Merge(patch)).await?;
    settled(namespace, containers).await
}

/// Waits until the pods of the server have so many containers each, and are ready.
async fn settled(namespace: &Namespace, containers: &[usize]) -> anyhow::Result<()> {
    until("the pods of the server to be replaced", ROLLOUT, async || {
        let all = namespace.pods().list(&ListParams::default().labels("app=shop")).await?.items;
        let mut counts: Vec<usize> = all.iter().map(containers_of).collect();
        counts.sort_unstable();
        let ready = all.iter().filter(|pod| smidge_e2e::pod::is_ready(pod)).count();
        anyhow::ensure!(counts == containers && ready == counts.len(), "{counts:?}, {ready} ready");
        Ok(())
    })
    .await
}

/// Counts the containers that run with a pod, its sidecars among them.
fn containers_of(pod: &core::Pod) -> usize {
    let spec = pod.spec.as_ref();
    let sidecars = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars = sidecars.filter(|it| it.restart_policy.as_deref() == Some("Always")).count();
    sidecars + spec.map_or(0, |spec| spec.containers.len())
}

#[tokio::test]
async fn a_namespace_joins_and_leaves_the_mesh_without_a_failed_call() -> anyhow::Result<()> {
    with_temp_ns(&[("smidge.mesh/access", "permissive")], async |callers| {
        callers.apply(&(caller("buyer") + &outsider("outsider"))).await?;
        let shops = Namespace::create(&callers.cluster, &[]).await?;
        let outcome = walk(callers, &shops).await;
        shops.delete().await?;
        outcome
    })
    .await
}

async fn walk(callers: &Namespace, shops: &Namespace) -> anyhow::Result<()> {
    shops.apply(&(server("shop", "enabled") + &service("shop", "shop", HTTP))).await?;
    Pod::all(shops, "shop", 2).await?;
    let (buyer, outsider) = (Pod::one(callers, "buyer").await?, Pod::one(callers, "outsider").await?);
    let url = format!("http://shop.{}:{HTTP}/books", shops.name);

    let permissive = ("smidge.mesh/mtls", "permissive");
    let (inside, outside) =
        (Stream::fresh(INSIDE, &buyer, &url).await?, Stream::fresh(OUTSIDE, &outsider, &url).await?);
    shops.label(&[INJECT, permissive, ("smidge.mesh/access", "permissive")]).await?;
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "once"}}}}});
    change(shops, restart, &[2, 2]).await?;
    let kept = Stream::kept(KEPT, &buyer, &url).await?;
    shops.label(&[INJECT, permissive, ("smidge.mesh/access", "audit")]).await?;
    shops.apply(&(everything() + &allow(&callers.name))).await?;
    // Only what the operator has read can be enforced.
    shops.condition("TrafficTarget", "shop", "Ready", "True", "Ready").await?;
    // Until here callers outside are served.
    outside.end("to audit").await?;
    shops.label(&[INJECT, ("smidge.mesh/access", "audit")]).await?;
    shops.label(&[INJECT]).await?;
    until("plaintext to be refused", EFFECT, async || {
        let calls = outsider.call(&url, &["--new-connections"]).await?;
        anyhow::ensure!(calls.must_all_be(200).is_err(), "it is still accepted");
        Ok(())
    })
    .await?;
    kept.end("to strict and enforce").await?;
    inside.end("to strict and enforce").await?;

    let (inside, kept) =
        (Stream::fresh(INSIDE, &buyer, &url).await?, Stream::kept(KEPT, &buyer, &url).await?);
    shops.label(&[INJECT, permissive, ("smidge.mesh/access", "permissive")]).await?;
    let outside = Stream::fresh(OUTSIDE, &outsider, &url).await?;
    shops.apply(&server("plain", "disabled")).await?;
    settled(shops, &[1, 1, 2, 2]).await?;
    change(shops, json!({"spec": {"replicas": 1}}), &[1, 1, 2]).await?;
    change(shops, json!({"spec": {"replicas": 0}}), &[1, 1]).await?;
    shops.label(&[]).await?;
    until("the Service to have left the mesh", EFFECT, async || {
        buyer.call(&url, &[]).await?.must_all_be(200)
    })
    .await?;
    for calls in [kept, inside, outside] {
        calls.end("back").await?;
    }
    Ok(())
}

/// Allows the buyer of a namespace to call the server.
fn allow(namespace: &str) -> String {
    format!(
        "
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: shop}}
spec:
  destination: {{kind: ServiceAccount, name: default}}
  sources: [{{kind: ServiceAccount, name: buyer, namespace: {namespace}}}]
  rules: {EVERYTHING}
---
"
    )
}
