//! Gets, creates and replaces Secrets of the system namespace, and logs nothing of their content.
//!
//! Used by `root`. Does not use `kube::Api`, because that logs a whole answer which it cannot parse. Does not know the
//! format of a Secret.

use std::{fmt, io};

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

/// Error of reading or writing a Secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The request to the API server failed.
    #[error("failed to {verb} Secret {name}")]
    Api {
        /// `get`, `create` or `replace`.
        verb: &'static str,
        /// The Secret's name.
        name: String,
        /// Error of the client.
        #[source]
        source: Box<kube::Error>,
    },
    /// The answer of the API server is no Secret.
    #[error("failed to {verb} Secret {name}: the answer is no Secret")]
    Answer {
        /// `get`, `create` or `replace`.
        verb: &'static str,
        /// The Secret's name.
        name: String,
    },
}

/// Result of a write.
pub enum Written {
    /// The write succeeded; this is the Secret as stored.
    Ours(Box<Secret>),
    /// Another client wrote first.
    Conflict,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours(_) => "Ours([redacted])",
            Self::Conflict => "Conflict",
        })
    }
}

/// The Secrets of one namespace.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    path: String,
}

impl Secrets {
    /// Creates a client of the Secrets of `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, path: Secret::url_path(&(), Some(namespace)) }
    }

    /// Returns the Secret `name`, if there is one.
    pub async fn get(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        let request = Request::new(&self.path).get(name, &GetParams::default());
        match self.send("get", name, with(request, Bytes::new())).await {
            Err(error) if error.code() == Some(404) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Returns the Secret `name`, which another client has just written.
    pub async fn require(&self, name: &str) -> Result<Secret, StoreError> {
        let request = Request::new(&self.path).get(name, &GetParams::default());
        self.send("get", name, with(request, Bytes::new())).await
    }

    /// Creates `secret`, unless it exists.
    pub async fn create(&self, name: &str, secret: &Secret) -> Result<Written, StoreError> {
        let request = Request::new(&self.path).create(&PostParams::default(), Vec::new());
        let body = body("create", name, secret)?;
        written(self.send("create", name, with(request, body)).await)
    }

    /// Replaces the Secret `name`, if it still has the version that `secret` names.
    pub async fn replace(&self, name: &str, secret: &Secret) -> Result<Written, StoreError> {
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

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("path", &self.path).finish_non_exhaustive()
    }
}

impl StoreError {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Answer { .. } => None,
        }
    }
}

/// Serialises a Secret to JSON, which is wiped when its last part was sent. (The copies that serde makes of values are
/// not.)
fn body(verb: &'static str, name: &str, secret: &Secret) -> Result<Bytes, StoreError> {
    let failed = |_| StoreError::Answer { verb, name: name.to_owned() };
    let mut length = Length(0);
    serde_json::to_writer(&mut length, secret).map_err(failed)?;
    // Reserved in full, because a buffer that grows leaves its old allocation behind unwiped.
    let mut text = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *text, secret).map_err(failed)?;
    Ok(Bytes::from_owner(text))
}

/// Counts the bytes that are written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
        Err(error) if error.code() == Some(409) => Ok(Written::Conflict),
        Err(error) => Err(error),
    }
}
