//! The authorities of a running control plane.
//!
//! Opened by `runtime` once at the start, which then spawns `run` and passes the rest on: roots to bootstraps, the
//! bundle to the mesh, leaves to the server. Reads and writes through `root`; does not sign leaves itself.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use smidge_xds::mesh::{id::TrustDomain, trust::Bundle};
use time::OffsetDateTime;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{
    metrics::Metrics,
    pem, renewal,
    root::{self, RootError},
    secret::{AuthorityName, Issuing, Roots},
    serving::{self, ServingCertificate, ServingError},
    source::LeafSource,
    store::Secrets,
    version::MeshKey,
};
use crate::clock::Clock;

/// Interval between reads of the intermediates, to learn of those that another replica renewed and to renew those that
/// are due. An intermediate that is due has six months left.
const CHECK: time::Duration = time::Duration::minutes(10);
/// Maximum time that a task sleeps by the monotonic clock before it reads the wall clock again: that one may have been
/// set, or the machine may have been suspended.
const MAX_SLEEP: time::Duration = time::Duration::minutes(1);

/// The authorities of a mesh.
#[derive(Debug)]
pub struct Authorities {
    secrets: Secrets,
    domain: TrustDomain,
    clock: Clock,
    metrics: Metrics,
    control_plane: Authority,
    workloads: Authority,
    webhooks: Authority,
    machines: Option<Authority>,
    key: MeshKey,
}

#[derive(Debug)]
struct Authority {
    name: AuthorityName,
    roots: Vec<String>,
    issuing: watch::Sender<Arc<Issuing>>,
    generation: watch::Sender<u64>,
}

/// Opens the authorities: reads their Secrets, and creates those that are missing. Retries until it succeeds, as a
/// control plane without them could serve nothing; each failure is logged with the Secret at fault. For Secrets of an API
/// server, which may be away at the moment: errors of a folder are permanent, so `Authorities::open` once is enough.
pub async fn open(secrets: Secrets, domain: TrustDomain, clock: Clock, metrics: Metrics) -> Authorities {
    let mut failures = 0;
    loop {
        let opening = Authorities::open(secrets.clone(), domain.clone(), clock.clone(), metrics.clone());
        match Box::pin(opening).await {
            Ok(authorities) => return authorities,
            Err(error) => {
                failures += 1;
                tracing::error!(error = %chain(&error), failures, "failed to load certificate authorities, retrying");
                pause(&clock, clock.now(), failures).await;
            }
        }
    }
}

impl Authorities {
    /// Opens the authorities in one attempt.
    pub async fn open(
        secrets: Secrets,
        domain: TrustDomain,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, RootError> {
        let now = clock.now();
        let [control_plane, workloads, webhooks] =
            [AuthorityName::ControlPlane, AuthorityName::Workloads, AuthorityName::Webhooks]
                .map(|name| Authority::open(&secrets, name, &domain, now, &metrics));
        let (control_plane, workloads, webhooks) = (control_plane.await?, workloads.await?, webhooks.await?);
        let key = root::mesh_key(&secrets).await?;
        let machines = None;
        Ok(Self { secrets, domain, clock, metrics, control_plane, workloads, webhooks, machines, key })
    }

    /// Opens the authorities in one attempt, that of machines among them.
    pub async fn open_with_machines(
        secrets: Secrets,
        domain: TrustDomain,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, RootError> {
        let mut opened = Box::pin(Self::open(secrets, domain, clock, metrics)).await?;
        let Self { secrets, domain, clock, metrics, .. } = &opened;
        let machines =
            Authority::open(secrets, AuthorityName::Machines, domain, clock.now(), metrics).await?;
        opened.machines = Some(machines);
        Ok(opened)
    }

    /// Returns the roots that a proxy must trust to connect to the control plane, as PEM: active and standby, for
    /// bootstraps.
    pub fn control_plane_roots(&self) -> Vec<String> {
        self.control_plane.roots.clone()
    }

    /// Returns the roots of the mesh's own identities, for `Trust::bundles`.
    pub fn workload_bundle(&self) -> Bundle {
        Bundle { roots: self.workloads.roots.iter().cloned().collect() }
    }

    /// Returns the `caBundle` of the webhook configurations, as PEM.
    pub fn webhook_ca_bundle(&self) -> String {
        self.webhooks.roots.concat()
    }

    /// Returns the verifier of the certificates that machines present; each client must present one. Without the
    /// authority of machines there are none that it would accept.
    pub fn machine_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, ServingError> {
        let mut roots = RootCertStore::empty();
        for root in self.machines.iter().flat_map(|machines| &machines.roots) {
            for certificate in pem::certificates(root.as_bytes()).unwrap_or_default() {
                roots.add(certificate)?;
            }
        }
        Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), serving::provider()).build()?)
    }

    /// Derives the key of the tokens in the paths of probes: the same for every replica, and after every restart.
    pub fn probe_key(&self) -> Zeroizing<[u8; MeshKey::LENGTH]> {
        self.key.derive("probes")
    }

    /// Derives the key of the token for the debug pages, where there is no API server.
    pub fn debug_key(&self) -> Zeroizing<[u8; MeshKey::LENGTH]> {
        self.key.debug_key()
    }

    /// Returns the source of leaves for the xDS server.
    pub fn leaves(&self) -> LeafSource {
        LeafSource::new(
            self.workloads.issuing.subscribe(),
            self.workloads.generation.subscribe(),
            self.key.clone(),
            self.clock.clone(),
            self.metrics.clone(),
        )
    }

    /// Issues the certificate of the xDS server, which proxies require to have exactly these DNS names.
    pub fn control_plane_certificate(&self, names: Vec<String>) -> Result<ServingCertificate, ServingError> {
        self.serving(&self.control_plane, names)
    }

    /// Issues the certificate of the webhook server.
    pub fn webhook_certificate(&self, names: Vec<String>) -> Result<ServingCertificate, ServingError> {
        self.serving(&self.webhooks, names)
    }

    /// Keeps the intermediates current. Never returns.
    pub async fn run(&self) {
        let mut failures = 0;
        let mut next = self.clock.now() + CHECK;
        loop {
            pause(&self.clock, next, failures).await;
            if self.clock.now() < next {
                continue;
            }
            match self.refresh().await {
                Ok(()) => {
                    failures = 0;
                    next = self.clock.now() + CHECK;
                }
                Err(error) => {
                    failures += 1;
                    tracing::error!(error = %chain(&error), failures, "failed to refresh intermediates");
                }
            }
        }
    }

    /// Reads the intermediates again and uses those that have changed; renews those that are due.
    pub async fn refresh(&self) -> Result<(), RootError> {
        let mut result = Ok(());
        for authority in
            [&self.control_plane, &self.workloads, &self.webhooks].into_iter().chain(&self.machines)
        {
            // An authority that cannot be refreshed does not stop the others.
            if let Err(error) = self.refresh_one(authority).await {
                self.metrics.renewal_failed(authority.name.as_str(), "issuer");
                result = Err(error);
            }
        }
        result
    }

    async fn refresh_one(&self, authority: &Authority) -> Result<(), RootError> {
        let next = root::issuing(&self.secrets, authority.name, &self.domain, self.clock.now()).await?;
        let (was, is) = (authority.issuing.borrow().issuer.digest(), next.issuer.digest());
        if was != is {
            tracing::info!(authority = %authority.name, issuer = %is, %was, "intermediate replaced");
            self.metrics.ends(authority.name.as_str(), "issuer", next.issuer.not_after());
            authority.issuing.send_replace(Arc::new(next));
            authority.generation.send_modify(|generation| *generation += 1);
        }
        Ok(())
    }

    fn serving(&self, authority: &Authority, names: Vec<String>) -> Result<ServingCertificate, ServingError> {
        let issuing = authority.issuing.subscribe();
        ServingCertificate::new(authority.name, names, issuing, self.clock.clone(), self.metrics.clone())
    }
}

impl Authority {
    async fn open(
        secrets: &Secrets,
        name: AuthorityName,
        domain: &TrustDomain,
        now: OffsetDateTime,
        metrics: &Metrics,
    ) -> Result<Self, RootError> {
        let Roots { active, standby } = root::roots(secrets, name, domain, now).await?;
        let issuing = root::issuing(secrets, name, domain, now).await?;
        metrics.ends(name.as_str(), "root", active.not_after());
        metrics.ends(name.as_str(), "issuer", issuing.issuer.not_after());
        tracing::info!(authority = %name, root = %active.digest(), issuer = %issuing.issuer.digest(), "certificate authority loaded");
        let roots = std::iter::once(&active).chain(&standby).map(|root| root.pem().to_owned()).collect();
        let (issuing, generation) = (watch::Sender::new(Arc::new(issuing)), watch::Sender::new(0));
        Ok(Self { name, roots, issuing, generation })
    }
}

/// Waits until `until` or, after `failures` in a row, for the delay before the next attempt; returns after a minute at
/// the latest, so callers read the clock again.
pub(super) async fn pause(clock: &Clock, until: OffsetDateTime, failures: u32) {
    let wait =
        if failures == 0 { until - clock.now() } else { renewal::retry_after(failures, rand::random()) };
    tokio::time::sleep(Duration::try_from(wait.min(MAX_SLEEP)).unwrap_or_default()).await;
}

/// Formats an error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
