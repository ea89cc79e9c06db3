//! Issues leaf certificates for proxies, and checks those that they hold.
//!
//! Called by the xDS server through `CertSource`; signs with the intermediate that `authorities` keeps current. Stores
//! nothing: a key exists from `issue` until the server has sent it. The server calls again when a leaf is due and when
//! an attempt failed, and the proxy keeps its leaf meanwhile; so a failure here costs nothing until the leaf expires.

use std::{sync::Arc, time::Duration};

use smidge_xds::{
    resources::Version,
    server::{CertSource, Credentials, Holder, IssueError},
};
use tokio::sync::watch;

use super::{
    issue::{self, Profile, Serial},
    metrics::Metrics,
    pem::{self, PrivateKey},
    renewal,
    secret::Issuing,
    version::{MeshKey, Stamp},
};
use crate::clock::Clock;

/// Source of leaf certificates from the built-in authority of workloads.
#[derive(Debug)]
pub struct LeafSource {
    issuing: watch::Receiver<Arc<Issuing>>,
    generation: watch::Receiver<u64>,
    key: MeshKey,
    lifetime: time::Duration,
    clock: Clock,
    metrics: Metrics,
}

impl LeafSource {
    /// Creates a source that signs with the intermediate in `issuing`, whose changes `generation` counts.
    pub fn new(
        issuing: watch::Receiver<Arc<Issuing>>,
        generation: watch::Receiver<u64>,
        key: MeshKey,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        Self { issuing, generation, key, lifetime: issue::LEAF_LIFETIME, clock, metrics }
    }

    /// Sets the lifetime of the leaves that it issues from now on. The default is 24 h.
    #[must_use]
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        let lifetime = time::Duration::try_from(lifetime).unwrap_or(issue::LEAF_LIFETIME);
        Self { lifetime, ..self }
    }

    fn make(&self, holder: &Holder) -> Result<Credentials, issue::IssueError> {
        let issuing = Arc::clone(&self.issuing.borrow());
        let issuer = &issuing.issuer;
        let now = self.clock.now();
        let Holder { proxy: _, identity, workload_kind, workload_name } = holder;
        let pair = issue::pair()?;
        let profile =
            Profile::Workload { identity, kind: workload_kind, name: workload_name, lifetime: self.lifetime };
        let leaf = issue::issue(issuer, &*pair, profile, now, Serial::new(rand::random()));
        let key = PrivateKey::from_pkcs8(pair.serialized_der());
        drop(pair);
        let leaf = leaf?;
        let renew_at = renewal::renew_at(now, leaf.not_after, rand::random());
        let version = Stamp { issuer: issuer.digest(), renew_at }.version(&self.key, identity);
        let chain = pem::certificate(&leaf.certificate) + issuer.pem();
        Ok(Credentials { chain, key: key.expose(), version: Version::new(&version) })
    }
}

impl CertSource for LeafSource {
    async fn issue(&self, holder: &Holder) -> Result<Credentials, IssueError> {
        match self.make(holder) {
            Ok(credentials) => {
                self.metrics.leaves.inc();
                Ok(credentials)
            }
            Err(error) => {
                self.metrics.leaf_failures.inc();
                tracing::error!(proxy = %holder.proxy, identity = %holder.identity, %error, "failed to issue leaf certificate");
                Err(IssueError(error.to_string()))
            }
        }
    }

    fn renew_in(&self, holder: &Holder, held: &Version) -> Option<Duration> {
        let issuers = self.issuing.borrow().accepted();
        let stamp = Stamp::read(held.as_str(), &self.key, &holder.identity, &issuers)?;
        let left = Duration::try_from(stamp.renew_at - self.clock.now()).ok()?;
        (!left.is_zero()).then_some(left)
    }

    fn issuers(&self) -> watch::Receiver<u64> {
        self.generation.clone()
    }
}
