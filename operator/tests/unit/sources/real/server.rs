//! A real API server without controllers, as `e2e/suite sources` starts it: stores objects as `kubectl apply` would, writes
//! the status of pods as a kubelet would, and removes all of it again.
//!
//! It calls the conversion webhook of the product, which this process serves. Nothing in it is replaced: an object that
//! it refuses is not stored.

use std::{
    collections::BTreeSet,
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::{Method, Request};
use k8s_openapi::{ByteString, apiextensions_apiserver::pkg::apis::apiextensions::v1::WebhookClientConfig};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use smidge::documents;
use smidge_crds::definitions;
use smidge_testing::{tls, webhook};

use super::super::stored::{Kind, kinds};

/// Time limit for the API server to serve everything that it has at its start.
const START: Duration = Duration::from_mins(1);
/// Interval of looks at it.
const INTERVAL: Duration = Duration::from_millis(100);
/// Metadata that an API server writes; kubectl leaves out the first one, and the others are not the user's to choose.
const OF_SERVER: [&str; 7] = [
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "finalizers",
];
/// Namespaces that every API server makes.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Answer by which the API server has refused something.
#[derive(Debug)]
pub struct Refusal {
    pub code: u16,
    pub message: String,
}

/// The API server.
pub struct Server {
    pub client: kube::Client,
    kinds: Vec<Kind>,
    /// Objects that it has by itself.
    pub own: Vec<Value>,
}

/// Objects that are stored, and what became of them.
#[derive(Default)]
pub struct Stored {
    /// The objects as they were written, with what only the API server can choose.
    pub objects: Vec<Value>,
    /// The refused ones, each with the reason.
    pub refused: Vec<String>,
    /// Number of Services whose address is another one than that which was written.
    pub readdressed: usize,
    paths: Vec<String>,
    namespaces: BTreeSet<String>,
}

impl Server {
    /// Connects to the API server of `SMIDGE_API_KUBECONFIG`, which is at its start, and installs the definitions.
    /// `SMIDGE_API_PEER` is the address of this machine that it can reach. Without them it prints so, but panics under
    /// `CI=true`.
    pub async fn connect() -> Option<Self> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let Some((kubeconfig, peer)) = variable("SMIDGE_API_KUBECONFIG").zip(variable("SMIDGE_API_PEER"))
        else {
            let is_later = variable("SMIDGE_CLUSTER_TESTS").is_some_and(|when| when == "later");
            assert!(
                is_later || variable("CI").is_none_or(|ci| ci != "true"),
                "SMIDGE_API_KUBECONFIG is not set"
            );
            println!("skipped: SMIDGE_API_KUBECONFIG names no API server (`e2e/suite sources` starts one)");
            return None;
        };
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let mut server = Self { client, kinds: kinds(), own: Vec::new() };
        server.install(&peer).await;
        server.read_own().await;
        Some(server)
    }

    /// Installs the definitions, whose versions the conversion webhook in this process converts.
    async fn install(&self, peer: &str) {
        let (tls, authority) = tls::self_signed_pem(peer);
        let port = webhook::serve_at(peer, Arc::new(tls), None).await.port();
        for mut definition in definitions::all().unwrap() {
            if let Some(webhook) = definition.spec.conversion.as_mut().and_then(|it| it.webhook.as_mut()) {
                webhook.client_config = Some(WebhookClientConfig {
                    ca_bundle: Some(ByteString(authority.clone().into_bytes())),
                    url: Some(format!("https://{peer}:{port}/convert")),
                    service: None,
                });
            }
            let definition = serde_json::to_value(definition).unwrap();
            let collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            self.put(collection, &definition).await.unwrap();
        }
    }

    /// Waits for the objects that the API server makes at its start, and for the definitions to be served.
    async fn read_own(&mut self) {
        let started = Instant::now();
        let mut rhythm = tokio::time::interval(INTERVAL);
        loop {
            rhythm.tick().await;
            match self.all().await {
                Ok(objects) if is_complete(&objects) => {
                    let other: Vec<_> = objects.iter().filter(|it| !is_own(it)).map(name).collect();
                    assert!(other.is_empty(), "the API server is not empty; start it anew: {other:?}");
                    self.own = objects;
                    return;
                }
                state => assert!(started.elapsed() < START, "not within {START:?}: {state:?}"),
            }
        }
    }

    /// Lists all objects of all kinds, as they were written.
    async fn all(&self) -> Result<Vec<Value>, Refusal> {
        let mut objects = Vec::new();
        for kind in &self.kinds {
            let mut list = self.request(Method::GET, &kind.path(), None).await?;
            let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            objects.extend(items.into_iter().map(|mut item| {
                item["apiVersion"] = json!(kind.api_version());
                item["kind"] = json!(kind.name);
                item["metadata"].as_object_mut().unwrap().remove("managedFields");
                item
            }));
        }
        Ok(objects)
    }

    /// Stores objects: namespaces first, then the others in their order.
    pub async fn store(&self, objects: Vec<Value>) -> Stored {
        let mut stored = Stored::default();
        let (namespaces, others): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|object| object["kind"] == "Namespace");
        for object in namespaces.into_iter().chain(others) {
            let shown = shown(&object);
            if let Err(Refusal { message, .. }) = self.store_one(object, &mut stored).await {
                stored.refused.push(format!("{shown}: {message}"));
            }
        }
        stored
    }

    async fn store_one(&self, mut object: Value, stored: &mut Stored) -> Result<(), Refusal> {
        let refusal = |message: &str| Refusal { code: 400, message: message.to_owned() };
        let version = object["apiVersion"].as_str().ok_or_else(|| refusal("no apiVersion"))?.to_owned();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let kind = self.kinds.iter().find(|kind| kind.group == group && object["kind"] == *kind.name);
        // Other kinds have no part in the mesh.
        let Some(kind) = kind else { return Ok(()) };
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        let metadata = metadata.ok_or_else(|| refusal("no metadata"))?;
        for field in OF_SERVER {
            metadata.remove(field);
        }
        let written = metadata.get("namespace").and_then(Value::as_str).filter(|name| !name.is_empty());
        let namespace = written.unwrap_or(documents::DEFAULT_NAMESPACE).to_owned();
        if kind.name == "Namespace" {
            stored.namespaces.insert(name(&object));
        } else if kind.is_namespaced {
            self.require_namespace(&namespace, stored).await?;
        }
        let root = if group.is_empty() { "api" } else { "apis" };
        let place = if kind.is_namespaced { format!("/namespaces/{namespace}") } else { String::new() };
        let collection = format!("/{root}/{version}{place}/{}", kind.plural);
        let answer = match self.put(&collection, &object).await {
            Err(_) if forget_address(&mut object) => {
                let answer = self.put(&collection, &object).await?;
                stored.readdressed += 1;
                answer
            }
            answer => answer?,
        };
        let path = format!("{collection}/{}", name(&answer));
        if let Err(refusal) = self.write_status(kind, &path, &object).await {
            self.request(Method::DELETE, &path, Some(&json!({"gracePeriodSeconds": 0}))).await.unwrap();
            return Err(refusal);
        }
        if kind.name != "Namespace" {
            stored.paths.push(path);
        }
        take_choices(&mut object, &answer);
        stored.objects.push(object);
        Ok(())
    }

    /// Creates a namespace without labels, unless there is one of this name.
    async fn require_namespace(&self, name: &str, stored: &mut Stored) -> Result<(), Refusal> {
        if NAMESPACES.contains(&name) || stored.namespaces.contains(name) {
            return Ok(());
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.request(Method::POST, "/api/v1/namespaces", Some(&namespace)).await?;
        stored.namespaces.insert(name.to_owned());
        Ok(())
    }

    /// Writes the status of a pod, as only its kubelet would: addresses above all.
    async fn write_status(&self, kind: &Kind, path: &str, object: &Value) -> Result<(), Refusal> {
        let Some(status) = object.get("status").filter(|_| kind.name == "Pod") else { return Ok(()) };
        let body = json!({"status": status});
        self.request(Method::PATCH, &format!("{path}/status"), Some(&body)).await.map(drop)
    }

    /// Creates an object, or replaces one of the same name.
    async fn put(&self, collection: &str, object: &Value) -> Result<Value, Refusal> {
        match self.request(Method::POST, collection, Some(object)).await {
            Err(refusal) if refusal.code == 409 => {
                let path = format!("{collection}/{}", name(object));
                let present = self.request(Method::GET, &path, None).await?;
                let mut object = object.clone();
                object["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"].clone();
                self.request(Method::PUT, &path, Some(&object)).await
            }
            answer => answer,
        }
    }

    /// Removes what was stored.
    pub async fn remove(&self, stored: Stored) {
        for path in stored.paths.iter().rev() {
            let removed = self.request(Method::DELETE, path, Some(&json!({"gracePeriodSeconds": 0}))).await;
            // Of two objects with one name there is one.
            assert!(removed.is_ok() || is_missing(&removed), "{path}: {removed:?}");
        }
        for name in stored.namespaces {
            let path = format!("/api/v1/namespaces/{name}");
            if NAMESPACES.contains(&&*name) {
                let bare =
                    self.own.iter().find(|it| it["kind"] == "Namespace" && it["metadata"]["name"] == name);
                let mut bare = bare.unwrap().clone();
                bare["metadata"].as_object_mut().unwrap().remove("resourceVersion");
                self.request(Method::PUT, &path, Some(&bare)).await.unwrap();
            } else if !is_missing(&self.request(Method::DELETE, &path, None).await) {
                // As the controller of namespaces does once they are empty.
                let last = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
                self.request(Method::PUT, &format!("{path}/finalize"), Some(&last)).await.unwrap();
            }
        }
    }

    /// Makes one request. Anything but an answer that an API server gives to a wrong request ends the test.
    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Refusal> {
        let content =
            if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let text = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("content-type", content);
        let Ok(request) = request.body(text) else {
            return Err(Refusal { code: 400, message: format!("{path:?} is no path") });
        };
        match self.client.request::<Value>(request).await {
            Ok(answer) => Ok(answer),
            // A version that cannot be converted is answered as a failure of the webhook.
            Err(kube::Error::Api(status))
                if status.code < 500 || status.message.contains("cannot become") =>
            {
                Err(Refusal { code: status.code, message: status.message.clone() })
            }
            Err(error) => panic!("{path}: {error}\n{body:?}"),
        }
    }
}

fn is_missing<T>(answer: &Result<T, Refusal>) -> bool {
    answer.as_ref().is_err_and(|refusal| refusal.code == 404)
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn shown(object: &Value) -> String {
    let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
    format!("{} {} {}", word("/apiVersion"), word("/kind"), word("/metadata/name"))
}

/// Returns true if everything is there that an API server makes at its start.
fn is_complete(objects: &[Value]) -> bool {
    let has = |kind: &str, name: &str| {
        objects.iter().any(|it| it["kind"] == kind && it["metadata"]["name"] == name)
    };
    has("Service", "kubernetes")
        && has("EndpointSlice", "kubernetes")
        && NAMESPACES.iter().all(|name| has("Namespace", name))
}

fn is_own(object: &Value) -> bool {
    match object["kind"].as_str() {
        Some("Service" | "EndpointSlice") => object["metadata"]["name"] == "kubernetes",
        Some("Namespace") => NAMESPACES.contains(&&*name(object)),
        _ => false,
    }
}

/// Removes the address of a Service, which may be none that this API server gives. Returns false if there is none.
fn forget_address(object: &mut Value) -> bool {
    if object["kind"] != "Service" || object["spec"]["clusterIP"] == "None" {
        return false;
    }
    let Some(spec) = object["spec"].as_object_mut() else { return false };
    let removed = [spec.remove("clusterIP"), spec.remove("clusterIPs")];
    removed.iter().any(Option::is_some)
}

/// Adds to an object as it was written what its author leaves to the API server.
fn take_choices(object: &mut Value, stored: &Value) {
    for field in ["name", "creationTimestamp"] {
        object["metadata"][field] = stored["metadata"][field].clone();
    }
    if object["kind"] == "Service" && object["spec"].is_object() && stored["spec"]["clusterIP"].is_string() {
        object["spec"]["clusterIP"] = stored["spec"]["clusterIP"].clone();
    }
}
