//! Access to the API server: writes objects, and takes the time of the event of a change.
//!
//! Used by the scenarios; `watched` takes the times. Uses untyped JSON: a measurement must not depend on this program's
//! types. Expects an empty cluster.

mod watched;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hyper::{Method, Request};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::shape::Object;
pub use watched::Watched;

/// Maximum number of concurrent writes.
const WRITES: usize = 48;
/// Time limit of a response.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Cluster with the objects of a shape.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Configuration for further clients.
    config: kube::Config,
    definitions: HashMap<String, Definition>,
}

/// Kind that one of our CRDs defines.
#[derive(Debug, Clone)]
struct Definition {
    /// Storage version, as `group/version`.
    version: String,
    plural: String,
}

/// Identity of a pod, as its token must name it.
#[derive(Debug, Clone)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Cluster {
    /// Connects to the cluster of a kubeconfig.
    pub async fn connect(kubeconfig: &std::path::Path) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Self::of(config)
    }

    fn of(config: kube::Config) -> anyhow::Result<Self> {
        Ok(Self { client: Client::try_from(config.clone())?, config, definitions: HashMap::new() })
    }

    /// Sends one request. A response without success is an error.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let kind = match (&method, body) {
            (&Method::PATCH, Some(Value::Array(_))) => "application/json-patch+json",
            (&Method::PATCH, _) => "application/merge-patch+json",
            _ => "application/json",
        };
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(bytes)?;
        let answer = tokio::time::timeout(TIMEOUT, self.client.request_text(request)).await;
        let text = answer
            .with_context(|| format!("no answer at {path}"))?
            .with_context(|| format!("failed at {path}"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Installs the CRDs that `smidge crds` prints, waits until they are served, and creates the operator's namespace.
    ///
    /// Conversion is left out: there is no webhook for it, and everything here is written at the storage version.
    pub async fn install(&mut self, definitions: &str) -> anyhow::Result<()> {
        self.must_be_empty().await?;
        let all: Vec<Value> =
            serde_saphyr::from_multiple(definitions).context("no YAML from `smidge crds`")?;
        for mut definition in all.into_iter().filter(|definition| !definition.is_null()) {
            let spec = definition.get_mut("spec").and_then(Value::as_object_mut).context("no spec")?;
            spec.remove("conversion");
            let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
            let group = text(spec.get("group"));
            let names = spec.get("names").cloned().unwrap_or_default();
            let stored = spec.get("versions").and_then(Value::as_array).into_iter().flatten();
            let stored = stored.filter(|version| version.get("storage") == Some(&Value::Bool(true)));
            let stored =
                stored.map(|version| text(version.get("name"))).next().context("no stored version")?;
            let known =
                Definition { version: format!("{group}/{stored}"), plural: text(names.get("plural")) };
            self.definitions.insert(text(names.get("kind")), known);
            self.call(
                Method::POST,
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                Some(&definition),
            )
            .await?;
        }
        let system = json!({"metadata": {"name": "smidge-system"}});
        self.call(Method::POST, "/api/v1/namespaces", Some(&system)).await?;
        self.served().await
    }

    /// Fails unless the cluster is empty: the measured objects must be the only ones, and a cluster in use must not be
    /// filled.
    async fn must_be_empty(&self) -> anyhow::Result<()> {
        let namespaces = self.call(Method::GET, "/api/v1/namespaces", None).await?;
        let operators = "/apis/apps/v1/namespaces/smidge-system/deployments";
        let operators = self.call(Method::GET, operators, None).await?;
        let items = |list: &Value| list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let is_used = items(&namespaces).iter().any(|it| it["metadata"]["name"] == "bench-0");
        anyhow::ensure!(!is_used, "the cluster is not empty: it has a namespace bench-0 of an earlier run");
        anyhow::ensure!(items(&operators).is_empty(), "the cluster is not empty: Smidge is installed in it");
        Ok(())
    }

    /// Waits until every kind of our CRDs is served.
    async fn served(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        for kind in self.definitions.keys() {
            let path = self.path(kind, "")?;
            while let Err(error) = self.call(Method::GET, &path, None).await {
                if started.elapsed() > TIMEOUT {
                    return Err(error).with_context(|| format!("{kind} is not served after {TIMEOUT:?}"));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Returns the path of the objects of a kind.
    pub fn path(&self, kind: &str, namespace: &str) -> anyhow::Result<String> {
        let (root, plural) = match kind {
            "Namespace" => ("/api/v1".to_owned(), "namespaces"),
            "Pod" => ("/api/v1".to_owned(), "pods"),
            "Service" => ("/api/v1".to_owned(), "services"),
            "Secret" => ("/api/v1".to_owned(), "secrets"),
            "EndpointSlice" => ("/apis/discovery.k8s.io/v1".to_owned(), "endpointslices"),
            _ => {
                let known = self.definitions.get(kind).with_context(|| format!("no definition of {kind}"))?;
                (format!("/apis/{}", known.version), known.plural.as_str())
            }
        };
        Ok(if namespace.is_empty() {
            format!("{root}/{plural}")
        } else {
            format!("{root}/namespaces/{namespace}/{plural}")
        })
    }

    /// Creates objects, namespaces first; returns those that are pods.
    pub async fn fill(&self, objects: Vec<Object>) -> anyhow::Result<HashMap<(String, String), Pod>> {
        let (first, rest): (Vec<Object>, Vec<Object>) =
            objects.into_iter().partition(|object| object.kind == "Namespace");
        let total = rest.len();
        for object in &first {
            self.make(object).await?;
        }
        let started = Instant::now();
        let pods = stream::iter(rest.iter().enumerate())
            .map(|(number, object)| async move {
                if number % 5000 == 4999 {
                    eprintln!("    {} of {total} objects after {:.0?}", number + 1, started.elapsed());
                }
                anyhow::Ok((object, self.make(object).await?))
            })
            .buffer_unordered(WRITES)
            .try_filter_map(|(object, uid)| async move {
                let (namespace, name) = (object.namespace.clone(), object.name.clone());
                let key = (namespace.clone(), name.clone());
                Ok((object.kind == "Pod").then_some((key, Pod { namespace, name, uid })))
            })
            .try_collect()
            .await?;
        eprintln!("    {total} objects took {:.0?}", started.elapsed());
        Ok(pods)
    }

    async fn make(&self, object: &Object) -> anyhow::Result<String> {
        let path = self.path(object.kind, &object.namespace)?;
        let mut body = object.body.clone();
        let fields = body.as_object_mut().context("an object that is none")?;
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        metadata
            .as_object_mut()
            .context("metadata that is none")?
            .insert("name".to_owned(), json!(object.name));
        let version = match object.kind {
            "EndpointSlice" => "discovery.k8s.io/v1",
            kind => self.definitions.get(kind).map_or("v1", |known| known.version.as_str()),
        };
        fields.insert("apiVersion".to_owned(), json!(version));
        fields.insert("kind".to_owned(), json!(object.kind));
        let made = self.call(Method::POST, &path, Some(&body)).await?;
        if let Some(status) = &object.status {
            let path = format!("{path}/{}/status", object.name);
            self.call(Method::PATCH, &path, Some(&json!({"status": status}))).await?;
        }
        Ok(made.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Starts to watch one object.
    pub async fn watch(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Watched> {
        Watched::begin(self, kind, namespace, name).await
    }
}
