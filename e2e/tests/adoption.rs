//! Tests that a namespace joins the mesh and leaves it pod by pod without a failed call: from nothing to strict mTLS and
//! enforced access, and back, while callers inside and outside the mesh call its Service.

use std::time::Duration;

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

/// The calls of one client: on connections that it keeps, and on new ones.
struct Load {
    who: &'static str,
    kept: Running,
    fresh: Running,
}

impl Load {
    async fn start(who: &'static str, client: &Pod, url: &str) -> anyhow::Result<Self> {
        until(&format!("{who} to reach the server"), EFFECT, async || {
            client.call(url, &[]).await?.must_all_be(200)
        })
        .await?;
        let kept = client.keep_calling(url, &["--concurrency=4", "--rate=100"]).await?;
        let fresh = client.keep_calling(url, &["--concurrency=2", "--rate=50", "--new-connections"]).await?;
        Ok(Self { who, kept, fresh })
    }

    /// Ends the calls, all of which must have succeeded.
    async fn end(self, during: &str) -> anyhow::Result<()> {
        for (kind, running) in [("kept", self.kept), ("new", self.fresh)] {
            let calls = running.calls().await?;
            println!(
                "{} during {during}, {kind} connections: {} requests, status {:?}, worst {:?} ms",
                self.who,
                calls.requests,
                calls.status,
                calls.latency_ms.get("max")
            );
            calls.must_all_be(200)?;
        }
        Ok(())
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

    let (inside, outside) = (
        Load::start("a caller inside", &buyer, &url).await?,
        Load::start("a caller outside", &outsider, &url).await?,
    );
    let permissive = ("smidge.mesh/mtls", "permissive");
    shops.label(&[INJECT, permissive, ("smidge.mesh/access", "permissive")]).await?;
    roll(shops, json!({}), 2).await?;
    shops.label(&[INJECT, permissive, ("smidge.mesh/access", "audit")]).await?;
    let sources = format!("[{{kind: ServiceAccount, name: buyer, namespace: {}}}]", callers.name);
    let target = format!(
        "
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: shop}}
spec:
  destination: {{kind: ServiceAccount, name: shop}}
  sources: {sources}
  rules: {EVERYTHING}
---
"
    );
    shops.apply(&(everything() + &target)).await?;
    outside.end("the way to audit").await?;

    shops.label(&[INJECT, ("smidge.mesh/mtls", "strict"), ("smidge.mesh/access", "enforce")]).await?;
    until("plaintext to be refused", EFFECT, async || {
        let calls = outsider.call(&url, &["--new-connections"]).await?;
        anyhow::ensure!(calls.must_all_be(200).is_err(), "it is still accepted");
        Ok(())
    })
    .await?;
    inside.end("the way to strict and enforce").await?;

    let inside = Load::start("a caller inside", &buyer, &url).await?;
    shops.label(&[INJECT, permissive, ("smidge.mesh/access", "permissive")]).await?;
    let outside = Load::start("a caller outside", &outsider, &url).await?;
    roll(shops, json!({"smidge.mesh/inject": "disabled"}), 1).await?;
    shops.label(&[]).await?;
    until("calls outside the mesh", EFFECT, async || buyer.call(&url, &[]).await?.must_all_be(200)).await?;
    inside.end("the way back").await?;
    outside.end("the way back").await
}
