//! The API server: objects in, and the moment at which it tells of a change.
//!
//! Used by the scenarios. Speaks JSON as it is, without types: what is measured must not depend on what this program
//! makes of it. Expects a cluster with nothing in it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _, stream};
use hyper::{Method, Request};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::shape::Object;

/// Writes at once.
const WRITES: usize = 48;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster with the objects of a shape.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// The stored version of each kind of ours, as `group/version`.
    versions: HashMap<String, String>,
}

/// What a pod's token must name.
#[derive(Debug, Clone)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Cluster {
    /// The cluster of a kubeconfig.
    pub async fn connect(kubeconfig: &std::path::Path) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)?, versions: HashMap::new() })
    }

    /// One call. An answer that is no success is an error.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let kind = match (&method, body) {
            (&Method::PATCH, Some(Value::Array(_))) => "application/json-patch+json",
            (&Method::PATCH, _) => "application/merge-patch+json",
            _ => "application/json",
        };
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(bytes)?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request_text(request)).await;
        let text = answer
            .with_context(|| format!("no answer at {path}"))?
            .with_context(|| format!("failed at {path}"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Installs the definitions that `smidge crds` prints, waits until they are served, and makes the operator's namespace.
    ///
    /// Conversion is left out: there is nobody to convert, and everything here is written as it is stored.
    pub async fn install(&mut self, definitions: &str) -> anyhow::Result<()> {
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
            self.versions.insert(text(names.get("kind")), format!("{group}/{stored}"));
            self.call(
                Method::POST,
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                Some(&definition),
            )
            .await?;
        }
        let system = json!({"metadata": {"name": "smidge-system"}});
        self.call(Method::POST, "/api/v1/namespaces", Some(&system)).await?;
        for kind in ["TrafficTarget", "HTTPRouteGroup", "TrafficSplit"] {
            let path = self.path(kind, "")?;
            for _ in 0..100 {
                if self.call(Method::GET, &path, None).await.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Where the objects of a kind live.
    pub fn path(&self, kind: &str, namespace: &str) -> anyhow::Result<String> {
        let (root, plural) = match kind {
            "Namespace" => ("/api/v1".to_owned(), "namespaces"),
            "Pod" => ("/api/v1".to_owned(), "pods"),
            "Service" => ("/api/v1".to_owned(), "services"),
            "Secret" => ("/api/v1".to_owned(), "secrets"),
            "EndpointSlice" => ("/apis/discovery.k8s.io/v1".to_owned(), "endpointslices"),
            "TrafficTarget" => (self.root(kind)?, "traffictargets"),
            "HTTPRouteGroup" => (self.root(kind)?, "httproutegroups"),
            "TrafficSplit" => (self.root(kind)?, "trafficsplits"),
            _ => anyhow::bail!("no kind {kind}"),
        };
        Ok(if namespace.is_empty() {
            format!("{root}/{plural}")
        } else {
            format!("{root}/namespaces/{namespace}/{plural}")
        })
    }

    fn root(&self, kind: &str) -> anyhow::Result<String> {
        let version = self.versions.get(kind).with_context(|| format!("no definition of {kind}"))?;
        Ok(format!("/apis/{version}"))
    }

    /// Makes objects, namespaces first; the answer has those that are pods.
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
            kind => self.versions.get(kind).map_or("v1", String::as_str),
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

    /// Begins to watch one object.
    pub async fn watch(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Watched> {
        let path = self.path(kind, namespace)?;
        let only = format!("fieldSelector=metadata.name%3D{name}");
        // From the list and not from the object: a version from before thousands of other changes is too old to watch from.
        let list = self.call(Method::GET, &format!("{path}?{only}"), None).await?;
        let from = version(&list).context("a list without a version")?;
        let uri = format!("{path}?watch=1&resourceVersion={from}&{only}");
        let lines = self.client.request_stream(Request::get(uri).body(Vec::new())?).await?;
        let (told, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut lines = Box::pin(lines).lines();
            while let Some(Ok(line)) = lines.next().await {
                let at = Instant::now();
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                let version = event.get("object").and_then(version).unwrap_or_default();
                if told.send((version, at)).is_err() {
                    return;
                }
            }
        });
        Ok(Watched { cluster: self.clone(), path: format!("{path}/{name}"), events })
    }
}

fn version(object: &Value) -> Option<String> {
    Some(object.pointer("/metadata/resourceVersion")?.as_str()?.to_owned())
}

/// An object that is being changed and watched.
pub struct Watched {
    cluster: Cluster,
    path: String,
    events: mpsc::UnboundedReceiver<(String, Instant)>,
}

impl Watched {
    /// Changes the object; the answer is the moment at which the watch told of exactly this change.
    pub async fn change(&mut self, patch: &Value) -> anyhow::Result<Instant> {
        let changed = self.cluster.call(Method::PATCH, &self.path, Some(patch)).await?;
        let wanted = version(&changed).context("an answer without a version")?;
        let told = async {
            while let Some((version, at)) = self.events.recv().await {
                if version == wanted {
                    return Some(at);
                }
            }
            None
        };
        let told = tokio::time::timeout(PATIENCE, told).await;
        told.context("the watch did not tell of a change")?.context("the watch has ended")
    }
}
