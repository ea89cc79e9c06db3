//! Keeps the issuer's name and keys, as the API server publishes them.
//!
//! Asked by `auth` for each stream; `maintain` reads them now and then, and a token with an unknown key has them read
//! at once, but not more often than every ten seconds, as anybody may send such tokens. What was read stays when
//! reading fails.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use kube::Client;
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    PATIENCE,
    keys::{KeySet, Known, Signature},
    token::Token,
};

/// How often keys are read without a reason, so that a key that was withdrawn is forgotten.
const PERIOD: Duration = Duration::from_mins(5);
/// The least time between two readings.
const PAUSE: Duration = Duration::from_secs(10);

/// Why keys could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The API server did not answer.
    #[error(
        "failed to read {path} (hint: the operator needs the ClusterRole system:service-account-issuer-discovery)"
    )]
    Read {
        /// What was asked for.
        path: &'static str,
        /// What the client says.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server took too long.
    #[error("failed to read {path} in time")]
    Timeout {
        /// What was asked for.
        path: &'static str,
    },
    /// The answer is not what it should be.
    #[error("invalid answer from {path}")]
    Answer {
        /// What was asked for.
        path: &'static str,
    },
}

/// The cluster's issuer of tokens.
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
    /// The issuer of the cluster that `client` talks to. Nothing is read yet.
    pub fn new(client: Client) -> Self {
        Self { client, known: ArcSwapOption::empty(), tried: Mutex::new(None) }
    }

    /// What is known of it.
    pub fn known(&self) -> Option<Arc<Known>> {
        self.known.load_full()
    }

    /// Returns whether the keys rule out that `token` is the issuer's. Reads them again for a key that they lack.
    pub async fn disowns(&self, token: &Token<'_>) -> bool {
        let verify = || self.known().map_or(Signature::Undecided, |known| known.keys.verify(token));
        let mut signature = verify();
        if signature == Signature::UnknownKey {
            self.refresh().await;
            signature = verify();
        }
        matches!(signature, Signature::Bad(_) | Signature::UnknownKey)
    }

    /// Reads the keys, unless that was tried just now. Streams that come meanwhile wait for the one reading.
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
    pub async fn maintain(&self) {
        loop {
            self.refresh().await;
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn read(&self) -> Result<Known, IssuerError> {
        let path = "/.well-known/openid-configuration";
        let Configuration { issuer } =
            serde_json::from_str(&self.get(path).await?).map_err(|_| IssuerError::Answer { path })?;
        // Where the configuration says the keys are is for clients outside of the cluster; here they always are.
        let path = "/openid/v1/jwks";
        let keys = KeySet::parse(&self.get(path).await?).ok_or(IssuerError::Answer { path })?;
        Ok(Known { issuer, keys })
    }

    async fn get(&self, path: &'static str) -> Result<String, IssuerError> {
        let failed = |source| IssuerError::Read { path, source: Box::new(source) };
        let request = hyper::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
        let answer = timeout(PATIENCE, self.client.request_text(request)).await;
        answer.map_err(|_| IssuerError::Timeout { path })?.map_err(failed)
    }
}

/// The cause of an error in words, for a log field.
struct Source<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.source().map_or(Ok(()), |source| write!(f, "{source}"))
    }
}
