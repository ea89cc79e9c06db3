//! Tests that a namespace joins the mesh and leaves it pod by pod without a failed call: from nothing to strict mTLS and
//! enforced access, and back, while callers inside and outside the mesh call its Service.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use smidge_e2e::{
    Namespace, Pod, Running,
    bookstore::{EVERYTHING, HTTP, caller, everything, outsider, service},
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
fn server() -> String {
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: shop}}
spec:
  replicas: 2
  strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec:
      serviceAccountName: shop
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
    ) + &service("shop", "shop", HTTP)
}

/// Calls of one client that go on during a step.
struct Load {
    who: &'static str,
    calls: Running,
}

impl Load {
    /// Starts calls on new connections.
    async fn fresh(who: &'static str, client: &Pod, url: &str) -> anyhow::Result<Self> {
        until(&format!("{who} to reach the server"), EFFECT, async || {
            client.call(url, &[]).await?.must_all_be(200)
        })
        .await?;
        let calls = client.keep_calling(url, &["--concurrency=2", "--rate=50", "--new-connections"]).await?;
        Ok(Self { who, calls })
    }

    /// Starts calls on connections that are kept, from a client whose proxy balances them. Without a proxy a server that
    /// ends closes them, and the client may be sending a request just then, mesh or not.
    async fn kept(who: &'static str, client: &Pod, url: &str) -> anyhow::Result<Self> {
        let calls = client.keep_calling(url, &["--concurrency=4", "--rate=100"]).await?;
        Ok(Self { who, calls })
    }

    /// Ends the calls, all of which must have succeeded.
    async fn end(self, step: &str) -> anyhow::Result<()> {
        let calls = self.calls.calls().await?;
        let worst = calls.latency_ms.get("max");
        println!(
            "{step}: {} made {} requests, {:?}, worst {worst:?} ms",
            self.who, calls.requests, calls.status
        );
        calls.must_all_be(200).with_context(|| format!("{step}: {}", self.who))
    }
}

/// Replaces all pods of the server by pods with these labels, and waits until the others are gone.
async fn roll(namespace: &Namespace, labels: serde_json::Value, containers: usize) -> anyhow::Result<()> {
    let deployments = namespace.cluster.api("apps/v1", "Deployment", &namespace.name)?;
    let stamp = json!({"spec": {"template": {"metadata": {
        "labels": labels, "annotations": {"restarted": format!("{labels} {containers}")}}}}});
    deployments.patch("shop", &PatchParams::default(), &Patch::Merge(stamp)).await?;
    let pods: Api<core::Pod> = namespace.pods();
    until("the pods of the server to be replaced", ROLLOUT, async || {
        let all = pods.list(&ListParams::default().labels("app=shop")).await?.items;
        let counts: Vec<usize> = all.iter().map(containers_of).collect();
        let ready = all.iter().filter(|pod| smidge_e2e::pod::is_ready(pod)).count();
        anyhow::ensure!(counts == [containers, containers] && ready == 2, "{counts:?}, {ready} ready");
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
    shops.apply(&server()).await?;
    Pod::all(shops, "shop", 2).await?;
    let (buyer, outsider) = (Pod::one(callers, "buyer").await?, Pod::one(callers, "outsider").await?);
    let url = format!("http://shop.{}:{HTTP}/books", shops.name);

    let permissive = ("smidge.mesh/mtls", "permissive");
    let (inside, outside) =
        (Load::fresh(INSIDE, &buyer, &url).await?, Load::fresh(OUTSIDE, &outsider, &url).await?);
    shops.label(&[INJECT, permissive, ("smidge.mesh/access", "permissive")]).await?;
    roll(shops, json!({}), 2).await?;
    let kept = Load::kept(KEPT, &buyer, &url).await?;
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

    // No kept connections: docs/limits.md has what happens to them when the last pod leaves the mesh.
    let inside = Load::fresh(INSIDE, &buyer, &url).await?;
    shops.label(&[INJECT, permissive, ("smidge.mesh/access", "permissive")]).await?;
    let outside = Load::fresh(OUTSIDE, &outsider, &url).await?;
    roll(shops, json!({"smidge.mesh/inject": "disabled"}), 1).await?;
    shops.label(&[]).await?;
    until("the Service to have left the mesh", EFFECT, async || {
        buyer.call(&url, &[]).await?.must_all_be(200)
    })
    .await?;
    inside.end("back").await?;
    outside.end("back").await
}

/// Allows the buyer of a namespace to call the server.
fn allow(namespace: &str) -> String {
    format!(
        "
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: shop}}
spec:
  destination: {{kind: ServiceAccount, name: shop}}
  sources: [{{kind: ServiceAccount, name: buyer, namespace: {namespace}}}]
  rules: {EVERYTHING}
---
"
    )
}
