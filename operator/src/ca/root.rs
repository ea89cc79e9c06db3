//! Reads the authorities' Secrets, and creates those that do not exist.
//!
//! Called by `ca::open` at the start and by `Authorities::maintain` for as long as the operator runs; `secret` knows
//! their format. Any number of replicas may start at once: each tries to create, and a replica that comes second reads
//! what the first one wrote. Nothing but an intermediate that is due is ever overwritten, and that only if it is still
//! the one that was read.

use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use smidge_xds::mesh::id::TrustDomain;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    issue::{self, IssueError, Issuer, Profile, Serial, Subject},
    secret::{self, AuthorityName, Issuing, MESH_KEY, Malformed, Roots},
    store::{Secrets, StoreError, Written},
    version::MeshKey,
};

/// Error of reading, creating or renewing an authority.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A Secret could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A Secret exists and cannot be used.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The authority was never created.
    #[error(
        "no authority for {authority}: Secret {secret} does not exist (hint: the control plane creates it when it starts \
         for the first time)"
    )]
    Missing {
        /// The authority.
        authority: AuthorityName,
        /// Name of the Secret of its roots.
        secret: String,
    },
    /// The key of the mesh was never created.
    #[error(
        "no key of the mesh: Secret {secret} does not exist (hint: the control plane creates it when it starts for the first \
         time)"
    )]
    NoKey {
        /// Name of its Secret.
        secret: &'static str,
    },
    /// A certificate could not be issued.
    #[error("failed to make a certificate of the {authority} authority")]
    Issue {
        /// The authority.
        authority: AuthorityName,
        /// The error of issuing.
        #[source]
        source: IssueError,
    },
}

/// Returns the roots of `authority`, created if there are none.
pub async fn roots(
    secrets: &Secrets,
    authority: AuthorityName,
    domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Roots, RootError> {
    let name = authority.root_secret();
    let make = || {
        let issue = |source| RootError::Issue { authority, source };
        let active = new_root(authority, domain, now).map_err(issue)?;
        let standby = authority.has_standby().then(|| new_root(authority, domain, now)).transpose();
        let standby = standby.map_err(issue)?;
        let standby = standby.as_ref().map(|(issuer, key)| (issuer, &**key));
        Ok(secret::write_roots(&name, (&active.0, &active.1), standby))
    };
    let read = |found: &Secret| Roots::read(&name, found, spiffe_domain(authority, domain), now);
    read_or_create(secrets, &name, read, make).await
}

/// Returns the roots of `authority`, and creates none.
pub async fn existing_roots(
    secrets: &Secrets,
    authority: AuthorityName,
    domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Roots, RootError> {
    let name = authority.root_secret();
    let Some(mut found) = secrets.get(&name).await? else {
        return Err(RootError::Missing { authority, secret: name });
    };
    let roots = Roots::read(&name, &found, spiffe_domain(authority, domain), now);
    secret::wipe(&mut found);
    Ok(roots?)
}

/// Returns the intermediate of `authority`, created if there is none and renewed if it is due.
pub async fn issuing(
    secrets: &Secrets,
    authority: AuthorityName,
    domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Issuing, RootError> {
    // Roots are read again each time, so that their keys are in memory only while they are needed. Serialised keys are
    // wiped; the library's own form of them is freed, as it cannot be wiped.
    let roots = roots(secrets, authority, domain, now).await?;
    let trusted: Vec<CertificateDer<'_>> =
        std::iter::once(&roots.active).chain(&roots.standby).map(|root| root.certificate().clone()).collect();
    let name = authority.issuer_secret();
    let read = |found: &Secret| Issuing::read(&name, found, &trusted);
    let make = |previous: Option<&Issuer>| {
        let (issuer, key) = new_intermediate(authority, &roots.active, domain, now)
            .map_err(|source| RootError::Issue { authority, source })?;
        Ok(secret::write_issuing(&name, (&issuer, &key), previous))
    };
    let Some(mut found) = secrets.get(&name).await? else {
        return read_or_create(secrets, &name, read, || make(None)).await;
    };
    let current = read(&found);
    secret::wipe(&mut found);
    let current = current?;
    if now < current.issuer.renew_at() {
        return Ok(current);
    }
    let mut next = make(Some(&current.issuer))?;
    // Replaces only the version that was read: of two replicas that renew at once, one gets a conflict.
    next.metadata = ObjectMeta { resource_version: found.metadata.resource_version, ..next.metadata };
    let written = secrets.replace(&name, &next).await;
    secret::wipe(&mut next);
    finish(secrets, &name, read, written?).await
}

/// Returns the key of the mesh, created if there is none.
pub async fn mesh_key(secrets: &Secrets) -> Result<MeshKey, RootError> {
    let make = || {
        let bytes = Zeroizing::new(rand::random::<[u8; MeshKey::LENGTH]>());
        Ok(secret::write_mesh_key(MESH_KEY, bytes.as_ref()))
    };
    read_or_create(secrets, MESH_KEY, |found| secret::read_mesh_key(MESH_KEY, found), make).await
}

/// Returns the key of the mesh, and creates none.
pub async fn existing_mesh_key(secrets: &Secrets) -> Result<MeshKey, RootError> {
    let Some(mut found) = secrets.get(MESH_KEY).await? else {
        return Err(RootError::NoKey { secret: MESH_KEY });
    };
    let key = secret::read_mesh_key(MESH_KEY, &found);
    secret::wipe(&mut found);
    Ok(key?)
}

async fn read_or_create<T>(
    secrets: &Secrets,
    name: &str,
    read: impl Fn(&Secret) -> Result<T, Malformed>,
    make: impl FnOnce() -> Result<Secret, RootError>,
) -> Result<T, RootError> {
    if let Some(mut found) = secrets.get(name).await? {
        let value = read(&found);
        secret::wipe(&mut found);
        return Ok(value?);
    }
    let mut new = make()?;
    let written = secrets.create(name, &new).await;
    secret::wipe(&mut new);
    finish(secrets, name, read, written?).await
}

/// Reads the Secret after a write: this replica's, or that of a replica that was faster, which is as good.
async fn finish<T>(
    secrets: &Secrets,
    name: &str,
    read: impl Fn(&Secret) -> Result<T, Malformed>,
    written: Written,
) -> Result<T, RootError> {
    let mut stored = match written {
        Written::Ours(stored) => *stored,
        Written::Conflict => secrets.require(name).await?,
    };
    let value = read(&stored);
    secret::wipe(&mut stored);
    Ok(value?)
}

fn new_root(
    authority: AuthorityName,
    domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<(Issuer, Zeroizing<KeyPair>), IssueError> {
    let name = format!("{authority} root");
    let key = issue::pair()?;
    let subject = Subject { name: &name, domain: spiffe_domain(authority, domain) };
    let issuer = issue::root(copy(&key)?, subject, now, serial())?;
    Ok((issuer, key))
}

fn new_intermediate(
    authority: AuthorityName,
    root: &Issuer,
    domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<(Issuer, Zeroizing<KeyPair>), IssueError> {
    let name = format!("{authority} issuer");
    let key = issue::pair()?;
    let subject = Subject { name: &name, domain: spiffe_domain(authority, domain) };
    let issued = issue::issue(root, &*key, Profile::Intermediate(subject), now, serial())?;
    Ok((Issuer::new(issued.certificate, copy(&key)?)?, key))
}

/// Returns the trust domain for the authorities whose leaves are SPIFFE IDs: those of workloads, and of machines, which
/// are none of workloads.
fn spiffe_domain(authority: AuthorityName, domain: &TrustDomain) -> Option<&TrustDomain> {
    matches!(authority, AuthorityName::Workloads | AuthorityName::Machines).then_some(domain)
}

/// Copies a key pair for `Issuer`, which wipes its own.
fn copy(key: &KeyPair) -> Result<KeyPair, IssueError> {
    KeyPair::from_pkcs8_der_and_sign_algo(&key.serialized_der().into(), key.algorithm())
        .map_err(IssueError::Sign)
}

fn serial() -> Serial {
    Serial::new(rand::random())
}
