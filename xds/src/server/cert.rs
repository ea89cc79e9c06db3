//! Interface between the server and a certificate authority, which issues the leaf certificate of a stream.
//!
//! The server requests a leaf when a proxy subscribes to one that it lacks and when the one it has is due. No component
//! keeps a key: it is generated on request, put into one response, and wiped. Does not sign, and reads no clock.

use std::{fmt, future::Future, time::Duration};

use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::{
    mesh::id::{ProxyId, SpiffeId},
    resources::Version,
};

/// Holder of a leaf certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The workload instance. No two instances share a key.
    pub proxy: ProxyId,
    /// The one URI SAN of the leaf.
    pub identity: SpiffeId,
    /// Kind of the workload, for the leaf's subject, so that metrics can distinguish workloads.
    pub workload_kind: String,
    /// Name of the workload, for the leaf's subject.
    pub workload_name: String,
}

/// Issues leaf certificates and evaluates those that proxies hold.
pub trait CertSource: Send + Sync + 'static {
    /// Issues a new leaf with a new key. Called again, with growing delays, if it fails; the proxy keeps its leaf.
    fn issue(&self, holder: &Holder) -> impl Future<Output = Result<Credentials, IssueError>> + Send;

    /// Returns the time for which `holder` may keep the leaf of version `held` until it should be renewed (jittered by
    /// the source); `None` if it must be replaced at once: it is due, of a retired issuer, of another holder, or not of
    /// this mesh.
    fn renew_in(&self, holder: &Holder, held: &Version) -> Option<Duration>;

    /// Returns a receiver that changes whenever results of `renew_in` may have changed for another reason than time: a
    /// new issuer.
    fn issuers(&self) -> watch::Receiver<u64>;
}

/// A leaf certificate with its key.
pub struct Credentials {
    /// PEM: the leaf, then its intermediates, without the root.
    pub chain: String,
    /// PEM, PKCS#8. Wiped when dropped.
    pub key: Zeroizing<String>,
    /// Names the issuer and the time of renewal and carries a MAC under a key of the mesh, so that every replica can
    /// verify it (`CertSource::renew_in`). Visible to the proxy and in debug pages: holds nothing secret.
    pub version: Version,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

/// Error of issuing a leaf certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to issue a certificate: {0}")]
pub struct IssueError(pub String);
