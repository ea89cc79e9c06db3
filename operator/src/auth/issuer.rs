//! Keeps the issuer's name and keys, as the API server publishes them.
//!
//! Used by `auth` for each stream; `run` reads them periodically, and a token with an unknown key causes a read at
//! once, but at most every ten seconds, because any client may send such tokens. The previous name and keys stay when a
//! read fails.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use kube::Client;
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    REVIEW_TIMEOUT,
    keys::{KeySet, Known, Signature},
    token::Token,
};

/// Interval between periodic reads of the keys, so that a withdrawn key is forgotten.
const PERIOD: Duration = Duration::from_mins(5);
/// Minimum interval between two reads.
const PAUSE: Duration = Duration::from_secs(10);

/// Error of reading the issuer's name and keys.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The request to the API server failed.
    #[error(
        "failed to read {path} (hint: the operator needs the ClusterRole system:service-account-issuer-discovery)"
    )]
    Read {
        /// Path of the request.
        path: &'static str,
        /// Error of the client.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("failed to read {path} in time")]
    Timeout {
        /// Path of the request.
        path: &'static str,
    },
    /// The answer is invalid.
    #[error("invalid answer from {path}")]
    Answer {
        /// Path of the request.
        path: &'static str,
    },
}

/// Issuer of the cluster's tokens.
pub struct Issuer {
    client: Client,
    known: ArcSwapOption<Known>,
    tried: Mutex<Option<Instant>>,
}

#[derive(Deserialize)]
struct Configuration {
    issuer: String,
}

impl Issuer {
    /// Creates the issuer of the cluster of `client`. Nothing is read yet.
    pub fn new(client: Client) -> Self {
        Self { client, known: ArcSwapOption::empty(), tried: Mutex::new(None) }
    }

    /// Returns the issuer's name and keys, once they were read.
    pub fn known(&self) -> Option<Arc<Known>> {
        self.known.load_full()
    }

    /// Returns true if the keys rule out that the issuer signed `token`. Reads them again for a key that they lack.
    pub async fn disowns(&self, token: &Token<'_>) -> bool {
        let verify = || self.known().map_or(Signature::Undecided, |known| known.keys.verify(token));
        let mut signature = verify();
        if signature == Signature::UnknownKey {
            self.refresh().await;
            signature = verify();
        }
        matches!(signature, Signature::Bad(_) | Signature::UnknownKey)
    }

    /// Reads the keys, unless that was tried just now. Concurrent streams wait for the one read.
    pub async fn refresh(&self) {
        let mut tried = self.tried.lock().await;
        if tried.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let result = self.read().await;
        *tried = Some(Instant::now());
        match result {
            Ok(known) => self.known.store(Some(Arc::new(known))),
            Err(error) => {
                tracing::warn!(%error, source = %Source(&error), "failed to read the issuer's keys");
            }
        }
    }

    /// Reads the keys at once and then every five minutes. Never returns.
    pub async fn run(&self) {
        loop {
            self.refresh().await;
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn read(&self) -> Result<Known, IssuerError> {
        let path = "/.well-known/openid-configuration";
        let Configuration { issuer } =
            serde_json::from_str(&self.get(path).await?).map_err(|_| IssuerError::Answer { path })?;
        // The location of the keys in the configuration is for clients outside of the cluster; inside, it is always
        // this one.
        let path = "/openid/v1/jwks";
        let keys = KeySet::parse(&self.get(path).await?).ok_or(IssuerError::Answer { path })?;
        Ok(Known { issuer, keys })
    }

    async fn get(&self, path: &'static str) -> Result<String, IssuerError> {
        let failed = |source| IssuerError::Read { path, source: Box::new(source) };
        let request = hyper::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
        let answer = timeout(REVIEW_TIMEOUT, self.client.request_text(request)).await;
        answer.map_err(|_| IssuerError::Timeout { path })?.map_err(failed)
    }
}

/// Cause of an error as text, for a log field.
struct Source<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.source().map_or(Ok(()), |source| write!(f, "{source}"))
    }
}
