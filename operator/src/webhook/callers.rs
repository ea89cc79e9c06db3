//! Decides which callers' reviews are answered, where the cluster's API server presents a client certificate.
//!
//! Used by `webhook`; created by `runtime` from a file with certificates of authorities. TLS verifies the signature of
//! a certificate, and this file its names. Does not guard conversions: API servers cannot present a certificate for
//! them, and their answers disclose nothing.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use rustls::{
    RootCertStore,
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tracing::{debug, warn};

use crate::{ca::pem, finding::in_short, https::ClientNames};

/// Minimum interval between warnings that a call was refused: a client that reaches the port can cause any number of
/// refusals.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Errors of reading the authorities of client certificates.
#[derive(Debug, thiserror::Error)]
pub enum CallersError {
    /// The file could not be read; it does not exist, for example.
    #[error("failed to read --webhook-client-ca {}: expected {EXPECTED}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The file has no certificate, or an invalid one.
    #[error("no certificate, or a broken one, in --webhook-client-ca {}: expected {EXPECTED}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
    },
    /// The TLS library does not accept one of the certificates as that of an authority.
    #[error("an unusable certificate in --webhook-client-ca {}: expected {EXPECTED}", file.display())]
    Root {
        /// The file.
        file: PathBuf,
        /// Error of the TLS library.
        #[source]
        source: rustls::Error,
    },
    /// The TLS library does not accept the certificates together.
    #[error("unusable certificates in --webhook-client-ca {}: expected {EXPECTED}", file.display())]
    Roots {
        /// The file.
        file: PathBuf,
        /// Error of the TLS library.
        #[source]
        source: VerifierBuilderError,
    },
}

/// Expected content of `--webhook-client-ca`, for messages.
const EXPECTED: &str = "PEM certificates of the authorities that sign the API server's client certificate";

/// Callers whose reviews are answered.
#[derive(Debug, Clone)]
pub struct Callers {
    verifier: Arc<dyn ClientCertVerifier>,
    names: BTreeSet<String>,
    logged: Arc<Mutex<Option<Instant>>>,
}

impl Callers {
    /// Reads the authorities from `file`. A certificate that they have signed is accepted if it has one of `names`, or
    /// if `names` is empty.
    pub fn read(file: &Path, names: Vec<String>) -> Result<Self, CallersError> {
        let file = file.to_owned();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(source) => return Err(CallersError::Read { file, source }),
        };
        let Some(certificates) = pem::certificates(&text) else { return Err(CallersError::Content { file }) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            if let Err(source) = roots.add(certificate) {
                return Err(CallersError::Root { file, source });
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Conversions come without a client certificate, and are answered.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build();
        match verifier {
            Ok(verifier) => Ok(Self { verifier, names: names.into_iter().collect(), logged: Arc::default() }),
            Err(source) => Err(CallersError::Roots { file, source }),
        }
    }

    /// Returns the verifier of the client certificate's signature, for the handshake.
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Accepts a call; otherwise returns the message for its caller and the log.
    fn judge(&self, presented: Option<&ClientNames>) -> Result<(), String> {
        let Some(ClientNames(names)) = presented else {
            return Err("the caller has shown no client certificate, and webhook.clientCA (--webhook-client-ca) asks for \
                        one: does the API server have one for this webhook (--admission-control-config-file)?"
                .to_owned());
        };
        if self.names.is_empty() || !self.names.is_disjoint(names) {
            return Ok(());
        }
        Err(in_short(format!(
            "the caller's client certificate is for {names:?}, and webhook.clientNames (--webhook-client-name) has none \
             of these"
        )))
    }

    /// Logs that a call was refused: as a warning at most once in `LOG_INTERVAL`, otherwise at debug level.
    fn log(&self, words: &str) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            warn!("a review was refused: {words}");
        } else {
            debug!("a review was refused: {words}");
        }
    }
}

/// Refuses a request before its body is read, unless its caller is accepted. Uses 403, as an API server passes the text
/// of a 403 on to its own client, and not that of a 401.
pub(super) async fn known(State(callers): State<Callers>, request: Request, next: Next) -> Response {
    match callers.judge(request.extensions().get()) {
        Ok(()) => next.run(request).await,
        Err(words) => {
            callers.log(&words);
            (StatusCode::FORBIDDEN, words).into_response()
        }
    }
}
