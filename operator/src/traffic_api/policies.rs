//! Reads and writes MetricsPolicies in the API server, with the operator's rights.
//!
//! Used by `traffic_api::stored`, which decides what is written for whom. Passes on the parameters of a write, and the
//! warnings of the API server.

use axum::http::{
    HeaderValue, Method, Request,
    header::{CONTENT_TYPE, WARNING},
};
use http_body_util::{BodyExt as _, Limited};
use kube::{Client, client::Body};
use serde_json::Value;
use smidge_traffic_metrics::api::{
    query::Parameters,
    status::Status,
    stored::{
        Options, Stored,
        answer::Part,
        policy::{self, Shown},
        refusal,
    },
};
use tracing::warn;

use super::objects::MAX_OBJECTS;

/// Maximum size of an answer of the API server, in bytes: a list of the largest objects would be more, but no such list
/// can be made into an answer.
const MAX_ANSWER: usize = 64 << 20;

/// MetricsPolicies of the API server.
pub(super) struct Policies {
    client: Client,
}

/// An answer of the API server.
pub(super) struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// The object, or the error.
    pub body: Value,
    /// The warnings.
    pub warnings: Vec<HeaderValue>,
}

impl Answer {
    /// Returns the answer, or the error for the user if it is one.
    pub(super) fn ok(self, name: &str) -> Result<Self, Status> {
        if (200..300).contains(&self.code) {
            return Ok(self);
        }
        let refused = refusal::of(self.code, &self.body, name);
        if refused.code >= 500 {
            let message = self.body.get("message").and_then(Value::as_str).unwrap_or_default();
            warn!(code = self.code, message, "failed to read or write a MetricsPolicy for TrafficMetrics");
        }
        Err(refused)
    }
}

impl Policies {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads the MetricsPolicy at a path, which must exist.
    pub(super) async fn get(&self, path: &str, name: &str) -> Result<Value, Status> {
        Ok(self.request(Method::GET, path, "", None).await?.ok(name)?.body)
    }

    /// Reads the MetricsPolicy at a path; `None` if there is none.
    pub(super) async fn find(&self, path: &str, name: &str) -> Result<Option<Value>, Status> {
        let answer = self.request(Method::GET, path, "", None).await?;
        if answer.code == 404 { Ok(None) } else { Ok(Some(answer.ok(name)?.body)) }
    }

    /// Reads a part of a list.
    pub(super) async fn list(&self, stored: &Stored) -> Result<Part, Status> {
        let path = policy::path(stored.namespace.as_deref(), None);
        let list = self.request(Method::GET, &path, &selection(&stored.parameters), None).await?.ok("")?.body;
        let text = |field: &str| {
            let value = list.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let items = list.get("items").and_then(Value::as_array);
        Ok(Part {
            policies: items.into_iter().flatten().map(Shown::of).collect(),
            resource_version: text("resourceVersion"),
            continue_token: text("continue"),
            remaining: list.pointer("/metadata/remainingItemCount").and_then(Value::as_u64),
        })
    }

    /// Sends a write.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        options: &Options,
        body: Option<&Value>,
    ) -> Result<Answer, Status> {
        let query = written(&method, options);
        self.request(method, path, &query, body).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Status> {
        let failed = || Status::unavailable("the API server did not answer about MetricsPolicies; try again");
        let content =
            if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
        let text = body.map(serde_json::to_vec).transpose().map_err(|_| failed())?;
        let separator = if query.is_empty() { "" } else { "?" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}{separator}{query}"))
            .header(CONTENT_TYPE, content)
            .body(Body::from(text.unwrap_or_default()))
            .map_err(|_| failed())?;
        let response = self.client.send(request).await.map_err(|error| {
            warn!(%error, "failed to reach the API server for TrafficMetrics");
            failed()
        })?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|_| failed())?.to_bytes();
        Ok(Answer {
            code: parts.status.as_u16(),
            // A proxy on the way may answer with a text.
            body: serde_json::from_slice(&body).unwrap_or_default(),
            warnings: parts.headers.get_all(WARNING).iter().cloned().collect(),
        })
    }
}

/// Returns the parameters of a list.
fn selection(parameters: &Parameters) -> String {
    let Parameters { label_selector, name, limit, continue_token, .. } = parameters;
    let mut query = form_urlencoded::Serializer::new(String::new());
    let limit = limit.unwrap_or(MAX_OBJECTS).min(MAX_OBJECTS);
    query.append_pair("limit", &limit.to_string());
    let field = name.as_ref().map(|name| format!("metadata.name={name}")).unwrap_or_default();
    for (key, value) in
        [("labelSelector", label_selector), ("continue", continue_token), ("fieldSelector", &field)]
    {
        if !value.is_empty() {
            query.append_pair(key, value);
        }
    }
    query.finish()
}

/// Returns the parameters of a write.
fn written(method: &Method, options: &Options) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if options.dry_run {
        query.append_pair("dryRun", "All");
    }
    if *method == Method::PATCH {
        query.append_pair("force", if options.force { "true" } else { "false" });
    }
    if !options.manager.is_empty() && *method != Method::DELETE {
        query.append_pair("fieldManager", &options.manager);
    }
    query.finish()
}
