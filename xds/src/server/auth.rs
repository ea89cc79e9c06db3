//! Interface between the server and a verifier of credentials, which decides to which workload instance a stream
//! belongs.
//!
//! The server calls an `Authenticator` before it answers anything; `operator::auth` is one, tests bring their own. The
//! node that a proxy sends is only a claim, compared with the `Admission` and never used instead of it.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tonic::{metadata::MetadataMap, transport::CertificateDer};

use crate::{
    mesh::id::{ProxyId, SpiffeId},
    refusal::RefusalReason,
};

/// Credentials that a stream presents.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The headers of the stream.
    pub metadata: &'a MetadataMap,
    /// The certificate chain of the client, leaf first, which the connection's TLS has verified. Empty without TLS over
    /// TCP, and where the server does not ask for certificates. It belongs to the connection: all its streams present
    /// the same one, however old the connection is.
    pub chain: &'a [CertificateDer<'static>],
}

/// Decides to which workload instance a stream belongs.
pub trait Authenticator: Send + Sync + 'static {
    /// Returns the instance whose credentials these are, or the reason for which the stream is refused.
    ///
    /// Called once per stream, before the server has answered anything.
    fn admit(&self, presented: &Presented<'_>) -> impl Future<Output = Result<Admission, Refusal>> + Send;
}

/// A caller that shares an authenticator, for example to keep it current, can hand it to the server.
impl<T: Authenticator> Authenticator for Arc<T> {
    fn admit(&self, presented: &Presented<'_>) -> impl Future<Output = Result<Admission, Refusal>> + Send {
        T::admit(self, presented)
    }
}

/// Proven identity of a stream, and the time for which the proof holds.
pub struct Admission {
    /// The workload instance; decides which view the stream gets.
    pub proxy: ProxyId,
    /// The identity that its certificate will name.
    pub identity: SpiffeId,
    /// The kind of workload of which the instance is a part, for example `Deployment`, for the certificate's subject.
    pub workload_kind: String,
    /// The name of that workload.
    pub workload_name: String,
    /// Remaining validity of the credentials. The stream ends a little before, so the proxy connects with its next ones.
    pub expires_in: Duration,
    /// Completes when the instance has ended; the stream ends with it.
    pub gone: BoxFuture<'static, ()>,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("proxy", &self.proxy)
            .field("identity", &self.identity)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// Refusal of a stream. The client learns the gRPC code only: no reason, no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused stream ({}): {detail}", self.reason.as_str())]
pub struct Refusal {
    /// The reason as a word of a closed set: metric label and log field.
    pub reason: RefusalReason,
    /// The details, for the log of the control plane. Never a token or a certificate.
    pub detail: String,
}
