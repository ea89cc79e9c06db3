//! Raw HTTP requests to the API server, with the whole response: the status, the warnings, the object.
//!
//! For what the typed client hides: admission warnings, and other versions of an object.

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use hyper::Request;
use kube::client::Body;
use serde_json::Value;

use crate::Cluster;

/// Response of the API server.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Warnings, as kubectl prints them.
    pub warnings: Vec<String>,
    /// Object, or a Status; its text if it does not parse.
    pub body: Value,
}

/// Kind of write request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Creation of a new object.
    Create,
    /// Creation as a dry run: admitted or refused like any other, and not stored.
    Rehearse,
    /// Replacement of the whole object.
    Replace,
    /// Merge patch of some fields, as Argo Rollouts sends it.
    Merge,
    /// Server-side apply, as `kubectl apply --server-side` sends it.
    Apply,
}

impl Answer {
    /// Returns the object, if the request succeeded.
    pub fn ok(self) -> anyhow::Result<Value> {
        anyhow::ensure!(self.status < 300, "{}: {}", self.status, self.body);
        Ok(self.body)
    }

    /// Returns the message of a refusal.
    pub fn refusal(&self) -> anyhow::Result<&str> {
        anyhow::ensure!(self.status >= 400, "it was not refused: {self:?}");
        self.body.get("message").and_then(Value::as_str).context("a refusal without words")
    }
}

impl Cluster {
    /// Writes `object` at the version that its `apiVersion` names.
    pub async fn write(&self, write: Write, namespace: &str, object: &Value) -> anyhow::Result<Answer> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let version = text("/apiVersion").context("an object without an apiVersion")?;
        let kind = text("/kind").context("an object without a kind")?;
        let name = text("/metadata/name").context("an object without a name")?;
        let (collection, one) = (path(version, kind, namespace, ""), path(version, kind, namespace, name));
        let (method, path, content) = match write {
            Write::Create => ("POST", collection, "application/json"),
            Write::Rehearse => ("POST", collection + "?dryRun=All", "application/json"),
            Write::Replace => ("PUT", one, "application/json"),
            Write::Merge => ("PATCH", one, "application/merge-patch+json"),
            Write::Apply => {
                ("PATCH", one + "?fieldManager=someone&force=true", "application/apply-patch+yaml")
            }
        };
        self.request(method, &path, content, Some(object)).await
    }

    /// Reads one object at `version`, for example `split.smi-spec.io/v1alpha1`.
    pub async fn read(
        &self,
        version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> anyhow::Result<Answer> {
        self.request("GET", &path(version, kind, namespace, name), "application/json", None).await
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        content: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string().into_bytes()));
        let request = Request::builder().method(method).uri(path).header("content-type", content);
        let response = self.client().send(request.body(body)?).await;
        let response = response.with_context(|| format!("failed to {method} {path}"))?;
        let status = response.status().as_u16();
        let headers = response.headers().get_all("warning").into_iter();
        // `299 - "words"`
        let warnings = headers
            .map(|header| String::from_utf8_lossy(header.as_bytes()).into_owned())
            .map(|header| header.split_once('"').map_or(header.clone(), |(_, words)| words.to_owned()))
            .collect();
        let body = response.into_body().collect().await?.to_bytes();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        Ok(Answer { status, warnings, body })
    }
}

fn path(version: &str, kind: &str, namespace: &str, name: &str) -> String {
    let plural = kind.to_lowercase() + "s";
    let namespace = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    let name = if name.is_empty() { String::new() } else { format!("/{name}") };
    // The core group has a path of its own.
    let root = if version.contains('/') { "apis" } else { "api" };
    format!("/{root}/{version}{namespace}/{plural}{name}")
}
