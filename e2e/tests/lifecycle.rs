//! Tests that what a cluster does to servers on purpose loses no request of a caller in the mesh: restarts, scaling,
//! evictions, deletions, of servers that finish their requests at SIGTERM and of servers that exit at once.
//!
//! Each case prints a row of the table in `docs/lifecycle.md`. What happens to the control plane is in `control_plane`.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::{apps::v1 as apps, core::v1 as core};
use kube::{
    Api,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use smidge_e2e::{
    Load, Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, everything, service, shop, target},
    node::Disturbance,
    pod::is_ready,
    until,
    wait::pass,
    with_temp_ns,
};

/// Time limit for a change of some pods, on a machine with other load.
const CHANGED: Duration = Duration::from_mins(4);
const URL: &str = "http://shop:14001/books";
/// Condition of a pod on which its readiness depends.
const GATE: &str = "smidge-e2e/gate";

/// Builds a Deployment of servers as people write them, without a thought about rollouts: no `preStop`.
fn server(replicas: u32, flag: &str) -> String {
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
  replicas: {replicas}
  selector: {{matchLabels: {{app: shop}}}}
  template:
    metadata: {{labels: {{app: shop}}}}
    spec:
      serviceAccountName: shop
      containers:
        - name: shop
          image: smidge.local/bookstore:dev
          imagePullPolicy: IfNotPresent
          args: [bookstore, --delay-ms=5{flag}]
          ports: [{{containerPort: {HTTP}}}]
          readinessProbe: {{httpGet: {{path: /healthz, port: {HTTP}}}, periodSeconds: 1}}
---
"
    )
}

/// Returns the number of servers at most: `SMIDGE_SCALE`, or as many as start within seconds on a small machine.
fn most() -> usize {
    std::env::var("SMIDGE_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// Servers of a test, and the client that calls them.
struct Servers<'a> {
    namespace: &'a Namespace,
    kind: &'static str,
    buyer: Pod,
}

impl<'a> Servers<'a> {
    async fn start(
        namespace: &'a Namespace,
        replicas: u32,
        kind: &'static str,
        flag: &str,
    ) -> anyhow::Result<Self> {
        let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
        let shop = server(replicas, flag) + &service("shop", "shop", HTTP);
        namespace.apply(&(shop + &caller("buyer") + &policy)).await?;
        Pod::all(namespace, "shop", usize::try_from(replicas)?).await?;
        let buyer = Pod::one(namespace, "buyer").await?;
        Ok(Self { namespace, kind, buyer })
    }

    /// Lets `change` happen under load, prints its row, and requires that no request failed.
    async fn case(&self, name: &str, change: impl AsyncFnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let load = Load::start(&self.buyer, URL).await?;
        let changed = change().await;
        let report = load.end().await?;
        println!("| {name} | {} {report}", self.kind);
        changed.with_context(|| name.to_owned())?;
        report.must_be_whole().with_context(|| format!("{name}, {}", self.kind))
    }

    fn deployments(&self) -> Api<apps::Deployment> {
        Api::namespaced(self.namespace.cluster.client(), &self.namespace.name)
    }

    async fn list(&self) -> anyhow::Result<Vec<core::Pod>> {
        Ok(self.namespace.pods().list(&ListParams::default().labels("app=shop")).await?.items)
    }

    /// Waits until there are exactly `count` servers, all ready and none of `previous`.
    async fn settled(&self, count: usize, previous: &[String]) -> anyhow::Result<()> {
        until(&format!("{count} servers that are ready"), CHANGED, async || {
            let pods = self.list().await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            let names: Vec<_> = pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
            let is_new = names.iter().all(|name| !previous.contains(name));
            anyhow::ensure!(ready == count && pods.len() == count && is_new, "{ready} ready of {names:?}");
            Ok(())
        })
        .await
    }

    async fn names(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.list().await?.into_iter().filter_map(|pod| pod.metadata.name).collect())
    }

    async fn patch(&self, patch: serde_json::Value) -> anyhow::Result<()> {
        self.deployments().patch("shop", &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn scale(&self, count: usize) -> anyhow::Result<()> {
        self.patch(json!({"spec": {"replicas": count}})).await?;
        self.settled(count, &[]).await
    }

    async fn delete_one(&self, count: usize) -> anyhow::Result<()> {
        let name = self.names().await?.into_iter().take(1).collect::<Vec<_>>();
        for pod in &name {
            self.namespace.pods().delete(pod, &DeleteParams::default()).await?;
        }
        self.settled(count, &name).await
    }

    /// Evicts every server, each once the one before is replaced, as a drain of a node does.
    async fn evict(&self, count: usize) -> anyhow::Result<()> {
        for name in self.names().await? {
            self.namespace.pods().evict(&name, &EvictParams::default()).await?;
            self.settled(count, &[name]).await?;
        }
        Ok(())
    }

    async fn all(&self) -> anyhow::Result<()> {
        self.case("rolling restart of 3", || self.namespace.restart("shop")).await?;
        self.case("deletion of one of 3", || self.delete_one(3)).await?;
        self.case("eviction of each of 3", || self.evict(3)).await?;
        let most = most();
        self.case(&format!("scale 3, 1, {most}, 1"), async || {
            self.scale(1).await?;
            self.scale(most).await?;
            self.scale(1).await
        })
        .await
    }
}

#[tokio::test]
async fn servers_that_finish_their_requests_lose_none() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        Servers::start(namespace, 3, "finishes at SIGTERM", "").await?.all().await
    })
    .await
}

#[tokio::test]
async fn servers_that_exit_at_once_lose_no_request_that_can_be_repeated() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        Servers::start(namespace, 3, "exits at SIGTERM", ", --exit-at-once").await?.all().await
    })
    .await
}

/// A pod whose node falls silent: nothing that is sent to it is answered, and nothing is refused. Calls that it had wait; others
/// go elsewhere, after the time limit of connecting where they chose it. None is lost if it comes back.
#[tokio::test]
async fn calls_of_a_pod_that_is_silent_for_a_while_wait_for_it() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let servers = Servers::start(namespace, 3, "is silent for 20 s", "").await?;
        let silent = Pod::all(namespace, "shop", 3).await?.into_iter().next().context("no server")?;
        let options = ["--concurrency=40", "--rate=100", "--timeout-ms=120000"];
        let calls = servers.buyer.keep_calling(URL, &options).await?;
        let Some(silence) = Disturbance::silence(&silent.address)? else { return Ok(()) };
        pass(Duration::from_secs(20)).await?;
        drop(silence);
        // As long again: the kernel repeats what was not acknowledged at growing intervals.
        pass(Duration::from_secs(20)).await?;
        let calls = calls.calls().await?;
        println!("one of 3 silent for 20 s: {calls:?}");
        calls.must_all_be(200)
    })
    .await
}

/// Builds a server that is ready while a condition of its pod is true, which the test sets.
fn gated(app: &str) -> String {
    shop(app, "shop", app).replace(
        "terminationGracePeriodSeconds: 2",
        &format!("terminationGracePeriodSeconds: 2\n      readinessGates: [{{conditionType: {GATE}}}]"),
    )
}

/// Sets that condition.
async fn set_gate(namespace: &Namespace, app: &str, status: &str) -> anyhow::Result<()> {
    let pods = namespace.pods().list(&ListParams::default().labels(&format!("app={app}"))).await?.items;
    let name = pods.into_iter().find_map(|pod| pod.metadata.name).context("no pod yet")?;
    let patch = json!({"status": {"conditions": [{"type": GATE, "status": status}]}});
    namespace.pods().patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

#[tokio::test]
async fn a_pod_that_is_not_ready_gets_no_new_request_after_a_second() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let servers = gated("one") + &shop("two", "shop", "two");
        let both = service("shop", "", HTTP).replace("{app: }", "{part-of: shop}");
        let servers = ["one", "two"].iter().fold(servers, |text, app| {
            text.replace(
                &format!("labels: {{app: {app}}}"),
                &format!("labels: {{app: {app}, part-of: shop}}"),
            )
        });
        let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
        namespace.apply(&(servers + &both + &caller("buyer") + &policy)).await?;
        until("the gate to be open", CHANGED, async || set_gate(namespace, "one", "True").await).await?;
        let gated = Pod::one(namespace, "one").await?;
        Pod::one(namespace, "two").await?;
        let buyer = Pod::one(namespace, "buyer").await?;
        let options = ["--count=100", "--concurrency=4", "--new-connections"];
        until("both to serve", CHANGED, async || {
            let calls = buyer.call(URL, &options).await?;
            anyhow::ensure!(calls.served_by.len() == 2, "{calls:?}");
            Ok(())
        })
        .await?;

        set_gate(namespace, "one", "False").await?;
        until("the API server to have the pod as not ready", CHANGED, async || {
            anyhow::ensure!(!is_ready(&gated.object().await?), "it is ready");
            Ok(())
        })
        .await?;
        pass(Duration::from_secs(1)).await?;
        let calls = buyer.call(URL, &options).await?;
        calls.must_all_be(200)?;
        anyhow::ensure!(!calls.served_by.contains_key("one"), "the pod is called: {calls:?}");
        Ok(())
    })
    .await
}
