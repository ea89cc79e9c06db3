//! Where the leaf certificate of a stream comes from: the seam between the server and a certificate authority.
//!
//! The server asks for a leaf when a proxy subscribes to one that it lacks and when the one it has is due; nobody keeps
//! a key: it is made on call, put into one response, and wiped. Does not sign, and does not know what time it is.

use std::{fmt, future::Future, time::Duration};

use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::{
    mesh::id::{ProxyId, SpiffeId},
    resources::Version,
};

/// For whom a leaf is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The workload instance. Its key is its own: no two instances share one.
    pub proxy: ProxyId,
    /// The one URI SAN of the leaf.
    pub identity: SpiffeId,
    /// For the leaf's subject, so that metrics can tell workloads apart.
    pub workload_kind: String,
    /// For the leaf's subject.
    pub workload_name: String,
}

/// Makes leaves and judges those that are out.
pub trait CertSource: Send + Sync + 'static {
    /// A new leaf with a new key. Called again, with growing pauses, if it fails; what the proxy has stays with it.
    fn issue(&self, holder: &Holder) -> impl Future<Output = Result<Credentials, IssueError>> + Send;

    /// How long `holder` may keep the leaf of version `held`, until it should be renewed (jittered by the source);
    /// `None` if it must be replaced at once: it is due, of a retired issuer, another holder's, or never was ours.
    fn renew_in(&self, holder: &Holder, held: &Version) -> Option<Duration>;

    /// Changes whenever answers of `renew_in` may have changed for another reason than time: a new issuer.
    fn issuers(&self) -> watch::Receiver<u64>;
}

/// A leaf certificate with its key.
pub struct Credentials {
    /// PEM: the leaf, then its intermediates, without the root.
    pub chain: String,
    /// PEM, PKCS#8. Wiped when dropped.
    pub key: Zeroizing<String>,
    /// Names the issuer and the time of renewal and carries a MAC under a key of the mesh, so that every replica can
    /// judge it (`CertSource::renew_in`). Visible to the proxy and in debug pages: holds nothing secret.
    pub version: Version,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

/// Why no leaf could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to issue a certificate: {0}")]
pub struct IssueError(pub String);
