//! Gets, creates and replaces the Secrets of a namespace at the API server, and logs nothing of their content.
//!
//! Used by `store`. Does not use `kube::Api`, because that logs a whole answer which it cannot parse. Does not know the
//! format of a Secret.

use std::fmt;

use http_body_util::BodyExt as _;
use hyper::body::{Buf as _, Bytes};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client, Resource as _,
    api::{GetParams, PostParams},
    client::Body,
    core::{Request, Status},
};
use zeroize::Zeroizing;

use super::{StoreError, Written, serialise};

/// The Secrets of one namespace.
#[derive(Clone)]
pub(super) struct Namespace {
    client: Client,
    path: String,
}

impl Namespace {
    /// Creates a client of the Secrets of `namespace`.
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self { client, path: Secret::url_path(&(), Some(namespace)) }
    }

    /// Returns the Secret `name`, if there is one.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        let request = Request::new(&self.path).get(name, &GetParams::default());
        match self.send("get", name, with(request, Bytes::new())).await {
            Err(error) if code(&error) == Some(404) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Returns the Secret `name`, which another client has just written.
    pub(super) async fn require(&self, name: &str) -> Result<Secret, StoreError> {
        let request = Request::new(&self.path).get(name, &GetParams::default());
        self.send("get", name, with(request, Bytes::new())).await
    }

    /// Creates `secret`, unless it exists.
    pub(super) async fn create(&self, name: &str, secret: &Secret) -> Result<Written, StoreError> {
        let request = Request::new(&self.path).create(&PostParams::default(), Vec::new());
        let body = body("create", name, secret)?;
        written(self.send("create", name, with(request, body)).await)
    }

    /// Replaces the Secret `name`, if it still has the version that `secret` names.
    pub(super) async fn replace(&self, name: &str, secret: &Secret) -> Result<Written, StoreError> {
        let body = body("replace", name, secret)?;
        let request = Request::new(&self.path).replace(name, &PostParams::default(), Vec::new());
        written(self.send("replace", name, with(request, body)).await)
    }

    /// Sends a request as `Client::request_text` does, with a body that is wiped. The buffers of the TLS connection and
    /// the chunks of the answer belong to the libraries, and are not.
    async fn send(
        &self,
        verb: &'static str,
        name: &str,
        request: Result<hyper::Request<Body>, kube::core::request::Error>,
    ) -> Result<Secret, StoreError> {
        let failed = |source| StoreError::Api { verb, name: name.to_owned(), source: Box::new(source) };
        let request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        let (head, body) = self.client.send(request).await.map_err(failed)?.into_parts();
        let mut body = body.collect().await.map_err(failed)?.aggregate();
        let mut text = Zeroizing::new(vec![0; body.remaining()]);
        body.copy_to_slice(&mut text);
        if !head.status.is_success() {
            let status = serde_json::from_slice::<Status>(&text)
                .unwrap_or_else(|_| Status::failure("no Status", "Unknown").with_code(head.status.as_u16()));
            return Err(failed(kube::Error::Api(status.boxed())));
        }
        // The parser's error may quote what it read.
        serde_json::from_slice(&text).map_err(|_| StoreError::Answer { verb, name: name.to_owned() })
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("path", &self.path).finish_non_exhaustive()
    }
}

fn with(
    request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    body: Bytes,
) -> Result<hyper::Request<Body>, kube::core::request::Error> {
    request.map(|request| request.map(|_| Body::from(body)))
}

fn written(result: Result<Secret, StoreError>) -> Result<Written, StoreError> {
    match result {
        Ok(stored) => Ok(Written::Ours(Box::new(stored))),
        Err(error) if code(&error) == Some(409) => Ok(Written::Conflict),
        Err(error) => Err(error),
    }
}

fn body(verb: &'static str, name: &str, secret: &Secret) -> Result<Bytes, StoreError> {
    let text = serialise(secret).map_err(|_| StoreError::Answer { verb, name: name.to_owned() })?;
    Ok(Bytes::from_owner(text))
}

fn code(error: &StoreError) -> Option<u16> {
    match error {
        StoreError::Api { source, .. } => match source.as_ref() {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        },
        _ => None,
    }
}
