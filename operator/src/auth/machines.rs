//! Turns the client certificate of a stream into the identity of a machine's proxy.
//!
//! Called by the xDS server where there is no Kubernetes, for each stream. TLS has verified that the authority of
//! machines signed the certificate; this module reads which machine it names, compares that with the objects as
//! published, and ends the stream when they no longer say the same. Does not read what the proxy states about itself,
//! and issues nothing: `ca` does.

use std::{fmt, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use sha2::{Digest as _, Sha256};
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId, SpiffeId, TrustDomain},
    server::{Admission, Authenticator, Presented, Refusal},
};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{metrics::Metrics, reason::Reason};
use crate::{
    ca::MachineId,
    clock::Clock,
    lower::{
        external_workload,
        machine::{KIND, KeyDigest, Machine},
    },
};

/// Finds a machine by namespace and name among the published objects. Called for each stream, and for each connected
/// machine after each change.
pub type Lookup<T> = fn(&T, &str, &str) -> Option<Machine>;

/// Settings of an authenticator.
pub struct Settings<T> {
    /// The mesh's trust domain; part of the certificates' and of every identity.
    pub domain: TrustDomain,
    /// The cluster that the machines belong to.
    pub cluster: ClusterId,
    /// The objects as published.
    pub objects: watch::Receiver<T>,
    /// Finds a machine among them.
    pub lookup: Lookup<T>,
    /// Wall clock.
    pub clock: Clock,
    /// Metrics of authentication.
    pub metrics: Metrics,
}

/// Authenticates streams by the client certificates of machines.
pub struct MachineAuthenticator<T>(Settings<T>);

/// Leaf certificate, as far as it matters.
struct Leaf {
    machine: MachineId,
    key: KeyDigest,
    not_before: i64,
    not_after: i64,
}

impl<T: Send + Sync + 'static> MachineAuthenticator<T> {
    /// Creates an authenticator.
    pub fn new(settings: Settings<T>) -> Self {
        Self(settings)
    }

    /// Returns the admission or the reason of the refusal; `about` is set to the machine as soon as it is known.
    fn judge(&self, presented: &Presented<'_>, about: &mut String) -> Result<Admission, Reason> {
        let Settings { domain, cluster, clock, .. } = &self.0;
        let leaf = presented.chain.first().ok_or(Reason::NoCertificate)?;
        let Leaf { machine, key, not_before, not_after } = Leaf::read(leaf, domain)?;
        *about = format!("machine {machine}, key sha256:{}", Hex(&key));
        let now = clock.now().unix_timestamp();
        // A connection may be older than its certificate is valid.
        if not_after <= now {
            return Err(Reason::Expired);
        }
        if not_before > now {
            return Err(Reason::NotYetValid);
        }
        let found = self.find(&machine).ok_or(Reason::MachineUnknown)?;
        if !found.accepts(&key) {
            return Err(Reason::KeyMismatch);
        }
        Ok(Admission {
            proxy: ProxyId {
                cluster: cluster.clone(),
                namespace: machine.namespace().to_owned(),
                instance: external_workload::instance(machine.name()),
            },
            identity: SpiffeId {
                trust_domain: domain.clone(),
                namespace: machine.namespace().to_owned(),
                service_account: found.service_account.clone(),
            },
            workload_kind: KIND.to_owned(),
            workload_name: machine.name().to_owned(),
            expires_in: Duration::from_secs((not_after - now).try_into().unwrap_or_default()),
            gone: self.gone(machine, found.service_account, key),
        })
    }

    fn find(&self, machine: &MachineId) -> Option<Machine> {
        (self.0.lookup)(&self.0.objects.borrow(), machine.namespace(), machine.name())
    }

    /// Returns a future that completes when the objects no longer give this key this account.
    fn gone(&self, machine: MachineId, account: String, key: KeyDigest) -> BoxFuture<'static, ()> {
        let (mut objects, lookup) = (self.0.objects.clone(), self.0.lookup);
        async move {
            let holds = |objects: &T| {
                lookup(objects, machine.namespace(), machine.name())
                    .is_some_and(|found| found.service_account == account && found.accepts(&key))
            };
            // The first comparison is with the objects of now, so a change since the admission is not missed. Without a
            // publisher nothing would end the stream any more.
            let _ = objects.wait_for(|objects| !holds(objects)).await;
        }
        .boxed()
    }
}

impl<T: Send + Sync + 'static> Authenticator for MachineAuthenticator<T> {
    async fn admit(&self, presented: &Presented<'_>) -> Result<Admission, Refusal> {
        let mut about = String::new();
        let result = self.judge(presented, &mut about);
        self.0.metrics.judged(result.as_ref().map(|_| ()).map_err(|reason| *reason));
        result.map_err(|reason| reason.refusal(&about))
    }
}

impl Leaf {
    /// Reads a certificate that must be a machine's of this trust domain.
    fn read(certificate: &[u8], domain: &TrustDomain) -> Result<Self, Reason> {
        let (rest, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| Reason::MalformedCertificate)?;
        if !rest.is_empty() {
            return Err(Reason::MalformedCertificate);
        }
        let names = parsed.subject_alternative_name().map_err(|_| Reason::MalformedCertificate)?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let [GeneralName::URI(uri)] = names else { return Err(Reason::NotMachine) };
        let machine = MachineId::from_uri(uri, domain).ok_or(Reason::NotMachine)?;
        if parsed.is_ca() {
            return Err(Reason::NotMachine);
        }
        let validity = parsed.validity();
        Ok(Self {
            machine,
            key: key_digest(parsed.public_key().raw),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }
}

/// Returns the digest by which an object pins the key with this `SubjectPublicKeyInfo`.
pub fn key_digest(public: &[u8]) -> KeyDigest {
    Sha256::digest(public).into()
}

/// Bytes in hexadecimal digits.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
