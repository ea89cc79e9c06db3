//! Keeps the certificates that our own servers present: the control plane's to proxies, the webhooks' to the API
//! server.
//!
//! Created by `Authorities`; the runtime builds its TLS listeners from `tls` and spawns `run`. A renewed
//! certificate is presented on the next connection, without a restart. Keys live in memory only, one per replica, for a
//! day.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring::sign::any_supported_type},
    server::{
        ClientHello, NoClientAuth, ResolvesServerCert, VerifierBuilderError, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};
use rustls_pki_types::PrivateKeyDer;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::{
    authorities::pause,
    issue::{self, IssueError, Issuer, Profile, Serial},
    metrics::Metrics,
    renewal,
    secret::{AuthorityName, Issuing},
};
use crate::clock::Clock;

/// The DNS name in the certificate of a control plane without Kubernetes, which has no Service whose name it could have.
/// It is never resolved: proxies connect to an address or name of their own, and demand this one.
pub const STANDALONE_SERVER_NAME: &str = "smidge.standalone";

/// Error of issuing or loading a serving certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The authority did not issue one.
    #[error("failed to issue a serving certificate")]
    Issue(#[from] IssueError),
    /// The TLS library does not accept it.
    #[error("failed to set up TLS")]
    Tls(#[from] rustls::Error),
    /// The roots of client certificates do not make a verifier; there are none, for example.
    #[error("failed to set up the verification of client certificates")]
    Verifier(#[from] VerifierBuilderError),
}

/// Certificate of a server, replaced before it ends.
pub struct ServingCertificate {
    authority: AuthorityName,
    names: Vec<String>,
    issuing: watch::Receiver<Arc<Issuing>>,
    shown: ArcSwap<CertifiedKey>,
    due: watch::Sender<OffsetDateTime>,
    clock: Clock,
    metrics: Metrics,
}

impl ServingCertificate {
    /// Issues a first certificate for `names`, signed by the intermediate in `issuing`.
    pub fn new(
        authority: AuthorityName,
        names: Vec<String>,
        issuing: watch::Receiver<Arc<Issuing>>,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, ServingError> {
        let (first, not_after, due) = make(&issuing.borrow().issuer, &names, clock.now())?;
        metrics.ends(authority.as_str(), "serving", not_after);
        let due = watch::Sender::new(due);
        Ok(Self { authority, names, issuing, shown: ArcSwap::from_pointee(first), due, clock, metrics })
    }

    /// Builds a configuration of TLS 1.3 with this certificate, which offers `alpn` in this order.
    pub fn tls(self: &Arc<Self>, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, ServingError> {
        self.config(alpn, Arc::new(NoClientAuth)).map(Arc::new)
    }

    /// Builds the same with a request for a client certificate, which `verifier` judges.
    pub fn tls_asking(
        self: &Arc<Self>,
        alpn: &[&[u8]],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<Arc<ServerConfig>, ServingError> {
        let mut config = self.config(alpn, verifier)?;
        // A session that is resumed would bring back a certificate that is not verified again.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn config(
        self: &Arc<Self>,
        alpn: &[&[u8]],
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<ServerConfig, ServingError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// Replaces the certificate whenever it is due. The current one stays while that fails. Never returns.
    pub async fn run(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            let due = *self.due.borrow();
            pause(&self.clock, due, failures).await;
            if self.clock.now() < due {
                continue;
            }
            match self.renew() {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    self.metrics.renewal_failed(self.authority.as_str(), "serving");
                    tracing::error!(authority = %self.authority, %error, "failed to renew serving certificate");
                }
            }
        }
    }

    fn renew(&self) -> Result<(), ServingError> {
        let (next, not_after, due) = make(&self.issuing.borrow().issuer, &self.names, self.clock.now())?;
        self.shown.store(Arc::new(next));
        self.due.send_replace(due);
        self.metrics.ends(self.authority.as_str(), "serving", not_after);
        Ok(())
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.load_full())
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingCertificate")
            .field("authority", &self.authority)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

fn make(
    issuer: &Issuer,
    names: &[String],
    now: OffsetDateTime,
) -> Result<(CertifiedKey, OffsetDateTime, OffsetDateTime), ServingError> {
    let pair = issue::pair()?;
    let leaf = issue::issue(issuer, &*pair, Profile::Server { names }, now, Serial::new(rand::random()))?;
    // Borrowed, so that the pair's own serialised key is the only copy, and is wiped with it.
    let key = any_supported_type(&PrivateKeyDer::Pkcs8(pair.serialized_der().into()))?;
    let chain = vec![leaf.certificate, issuer.certificate().clone()];
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match()?;
    let due = renewal::renew_at(now, leaf.not_after, rand::random());
    Ok((certified, leaf.not_after, due))
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
