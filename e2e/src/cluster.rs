//! Cluster under test: a client from `SMIDGE_KUBECONFIG`, manifests applied as users apply them, and objects as the API
//! server returns them.
//!
//! Objects travel as plain YAML and untyped objects: the tests see what `kubectl` sees, not the types of this
//! repository.

use std::path::PathBuf;

use anyhow::Context as _;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

/// Cluster-scoped kinds.
const CLUSTER_SCOPED: &[&str] =
    &["Namespace", "CustomResourceDefinition", "MeshConfig", "ClusterRole", "ClusterRoleBinding"];

/// Field manager in server-side apply.
const MANAGER: &str = "smidge-e2e";

/// Cluster in which the mesh is installed.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Returns the cluster that `SMIDGE_KUBECONFIG` names. Without one the test is skipped with a message; with
    /// `CI=true` it fails.
    pub async fn under_test() -> anyhow::Result<Option<Self>> {
        if let Some(path) = std::env::var_os("SMIDGE_KUBECONFIG") {
            return Self::connect(PathBuf::from(path)).await.map(Some);
        }
        // The suite first runs everything that needs no cluster, and runs these tests when there is one.
        let later = std::env::var("SMIDGE_CLUSTER_TESTS").is_ok_and(|when| when == "later");
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        anyhow::ensure!(later || !ci, "SMIDGE_KUBECONFIG is not set, and with CI=true nothing is skipped");
        eprintln!("skipped: SMIDGE_KUBECONFIG names no cluster (`make test` brings one)");
        Ok(None)
    }

    async fn connect(path: PathBuf) -> anyhow::Result<Self> {
        let kubeconfig =
            Kubeconfig::read_from(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)? })
    }

    /// Returns the client, for requests that have no method here.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Applies every document of `yaml`; documents without a namespace go to `namespace`.
    pub async fn apply(&self, namespace: &str, yaml: &str) -> anyhow::Result<()> {
        for document in documents(yaml)? {
            let (api, name) = self.api_of(namespace, &document)?;
            let params = PatchParams::apply(MANAGER).force();
            api.patch(&name, &params, &Patch::Apply(&document))
                .await
                .with_context(|| format!("failed to apply {name}:\n{document}"))?;
        }
        Ok(())
    }

    /// Deletes the object of every document; an object that is gone already is no error.
    pub async fn delete(&self, namespace: &str, yaml: &str) -> anyhow::Result<()> {
        for document in documents(yaml)? {
            let (api, name) = self.api_of(namespace, &document)?;
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error).with_context(|| format!("failed to delete {name}")),
            }
        }
        Ok(())
    }

    /// Returns one object, by `group/version` (or `v1`), kind and name.
    pub async fn get(
        &self,
        version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> anyhow::Result<DynamicObject> {
        let api = self.api(version, kind, namespace)?;
        api.get(name).await.with_context(|| format!("failed to get {kind} {namespace}/{name} in {version}"))
    }

    /// Returns the API of a kind; an empty namespace means all namespaces.
    pub fn api(&self, version: &str, kind: &str, namespace: &str) -> anyhow::Result<Api<DynamicObject>> {
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Ok(if CLUSTER_SCOPED.contains(&kind) || namespace.is_empty() {
            Api::all_with(self.client(), &resource)
        } else {
            Api::namespaced_with(self.client(), namespace, &resource)
        })
    }

    fn api_of(&self, namespace: &str, document: &Value) -> anyhow::Result<(Api<DynamicObject>, String)> {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").with_context(|| format!("a document without a kind: {document}"))?;
        let version =
            text("/apiVersion").with_context(|| format!("a document without an apiVersion: {document}"))?;
        let name = text("/metadata/name").with_context(|| format!("a {kind} without a name"))?;
        let namespace = text("/metadata/namespace").unwrap_or(namespace);
        Ok((self.api(version, kind, namespace)?, name.to_owned()))
    }
}

fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).with_context(|| format!("failed to parse:\n{yaml}"))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}
