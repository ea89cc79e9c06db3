//! Who a stream belongs to: the seam between the server and whoever can judge a token.
//!
//! The server asks an `Authenticator` before it answers anything; `operator::auth` is one, tests bring their own.
//! What a proxy says of itself (its node) is only a claim, compared with the `Admission` and never used instead of it.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tonic::metadata::MetadataMap;

use crate::{
    mesh::id::{ProxyId, SpiffeId},
    refusal::RefusalReason,
};

/// Decides to which workload instance a stream belongs.
pub trait Authenticator: Send + Sync + 'static {
    /// The instance that the bearer of `metadata` is, or why it is nobody.
    ///
    /// Called once per stream, before the server has answered anything.
    fn admit(&self, metadata: &MetadataMap) -> impl Future<Output = Result<Admission, Refusal>> + Send;
}

/// Whoever shares an authenticator, to keep it current, say, can hand it to the server.
impl<T: Authenticator> Authenticator for Arc<T> {
    fn admit(&self, metadata: &MetadataMap) -> impl Future<Output = Result<Admission, Refusal>> + Send {
        T::admit(self, metadata)
    }
}

/// A stream's proven identity, and how long the proof holds.
pub struct Admission {
    /// The workload instance; decides which view the stream gets.
    pub proxy: ProxyId,
    /// The identity that its certificate will name.
    pub identity: SpiffeId,
    /// The kind of workload that the instance is part of, for example `Deployment`, for the certificate's subject.
    pub workload_kind: String,
    /// The name of that workload.
    pub workload_name: String,
    /// How long the token is still valid. The stream ends a little before, so that the proxy comes with its next token.
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

/// Why a stream is refused. The client learns the code only: no reason, no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused stream ({}): {detail}", self.reason.as_str())]
pub struct Refusal {
    /// The reason as a closed word: metric label and log field.
    pub reason: RefusalReason,
    /// The details, for the log of the control plane. Never a token.
    pub detail: String,
}
