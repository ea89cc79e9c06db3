//! Namespace of one test: created when the test begins, deleted when it ends.
//!
//! `SMIDGE_KEEP=1` keeps the namespaces of failed tests, for inspection.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::api::{apps::v1 as apps, core::v1 as core};
use kube::{
    Api,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    Cluster,
    pod::{START, is_ready},
    until,
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Namespace of one test, in a cluster.
#[derive(Clone)]
pub struct Namespace {
    /// Cluster of the namespace.
    pub cluster: Cluster,
    /// Name of the namespace.
    pub name: String,
}

/// Runs `test` with a namespace of its own in which pods are injected, and deletes it afterwards. Adds `labels` to the
/// namespace.
///
/// Without a cluster under test nothing is run. When the test fails, the states and logs of its pods are printed.
pub async fn with_temp_ns(
    labels: &[(&str, &str)],
    test: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some(cluster) = Cluster::under_test().await? else { return Ok(()) };
    let mut all = vec![("smidge.mesh/inject", "enabled")];
    all.extend(labels);
    let namespace = Namespace::create(&cluster, &all).await?;
    let outcome = test(&namespace).await;
    if outcome.is_err() {
        namespace.describe().await;
    }
    if outcome.is_ok() || std::env::var_os("SMIDGE_KEEP").is_none() {
        namespace.delete().await?;
    }
    outcome
}

/// Waits until the namespaces of other tests are gone, so that only the test in `own` changes the mesh.
pub async fn exclusive(cluster: &Cluster, own: &str) -> anyhow::Result<()> {
    let namespaces: Api<core::Namespace> = Api::all(cluster.client());
    until("the other tests' namespaces to be gone", Duration::from_mins(3), async || {
        let all = namespaces.list(&ListParams::default()).await?.items;
        let others: Vec<_> = all.into_iter().filter_map(|namespace| namespace.metadata.name).collect();
        let others: Vec<_> =
            others.into_iter().filter(|name| name.starts_with("e2e-") && name != own).collect();
        anyhow::ensure!(others.is_empty(), "{others:?}");
        Ok(())
    })
    .await
}

impl Namespace {
    /// Creates a namespace with these labels.
    pub async fn create(cluster: &Cluster, labels: &[(&str, &str)]) -> anyhow::Result<Self> {
        let name = format!("e2e-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let namespace = Self { cluster: cluster.clone(), name };
        namespace.label(labels).await?;
        Ok(namespace)
    }

    /// Applies the namespace with exactly these labels.
    pub async fn label(&self, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.name, "labels": labels},
        });
        self.apply(&namespace.to_string()).await
    }

    /// Applies documents in this namespace.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        self.cluster.apply(&self.name, yaml).await
    }

    /// Deletes the objects of the documents in this namespace.
    pub async fn remove(&self, yaml: &str) -> anyhow::Result<()> {
        self.cluster.delete(&self.name, yaml).await
    }

    /// Returns the API of the pods in this namespace.
    pub fn pods(&self) -> Api<core::Pod> {
        Api::namespaced(self.cluster.client(), &self.name)
    }

    /// Replaces the pods of a Deployment, and waits until the previous ones are gone and the others are ready.
    pub async fn restart(&self, deployment: &str) -> anyhow::Result<()> {
        let api: Api<apps::Deployment> = Api::namespaced(self.cluster.client(), &self.name);
        let selector = ListParams::default().labels(&format!("app={deployment}"));
        let names = async || -> anyhow::Result<Vec<_>> {
            Ok(self.pods().list(&selector).await?.items.into_iter().map(|pod| pod.metadata.name).collect())
        };
        let previous = names().await?;
        let annotations = json!({"smidge-e2e/replaces": previous.first()});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        api.patch(deployment, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        until(&format!("the pods of {deployment} to be replaced"), START, async || {
            let pods = self.pods().list(&selector).await?.items;
            let old = pods.iter().filter(|pod| previous.contains(&pod.metadata.name)).count();
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            anyhow::ensure!(old == 0 && ready == previous.len(), "{old} old pods, {ready} ready");
            Ok(())
        })
        .await
    }

    /// Starts the deletion of the namespace; does not wait for its end.
    pub async fn delete(&self) -> anyhow::Result<()> {
        let api: Api<core::Namespace> = Api::all(self.cluster.client());
        api.delete(&self.name, &DeleteParams::background())
            .await
            .context("failed to delete the namespace")?;
        Ok(())
    }

    /// Prints what the diagnosis of a failed test needs: pods, their states, the ends of their logs.
    async fn describe(&self) {
        let pods = self.pods().list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        for pod in pods {
            let name = pod.metadata.name.unwrap_or_default();
            let status = pod.status.unwrap_or_default();
            eprintln!("--- pod {}/{name}: {}", self.name, status.phase.unwrap_or_default());
            let containers = status.init_container_statuses.into_iter().flatten();
            for container in containers.chain(status.container_statuses.into_iter().flatten()) {
                let state = serde_json::to_string(&container.state).unwrap_or_default();
                eprintln!("    {}: ready {}, {state}", container.name, container.ready);
                let params = LogParams {
                    container: Some(container.name),
                    tail_lines: Some(12),
                    ..LogParams::default()
                };
                let log = self.pods().logs(&name, &params).await.unwrap_or_else(|error| error.to_string());
                for line in log.lines() {
                    eprintln!("      | {line}");
                }
            }
        }
    }
}
