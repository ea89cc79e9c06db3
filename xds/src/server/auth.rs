//! Who a stream belongs to: the seam between the server and whoever can judge a token.
//!
//! The server asks an `Authenticator` before it answers anything; `operator::auth` is one, tests bring their own.
//! What a proxy says of itself (its node) is only a claim, compared with the `Admission` and never used instead of it.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tonic::{Code, Status, metadata::MetadataMap};

use crate::mesh::id::{ProxyId, SpiffeId};

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

/// The reasons for which a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// The stream carries no token.
    NoToken,
    /// The token is not one that can be believed: signature, issuer, audience, shape.
    InvalidToken,
    /// The token was good once.
    ExpiredToken,
    /// The token is good, and its workload instance does not exist (any more).
    WorkloadNotFound,
    /// The token is good, and the proxy claims to be somebody else.
    NodeIdMismatch,
    /// The instance exists and has no proxy of this mesh.
    NotInMesh,
    /// The proxy has too many streams that do not end, as it reads nothing of them.
    TooManyStreams,
    /// The proxy claims to hold more resources than it can have been told.
    TooManyInitialVersions,
    /// The token cannot be judged just now; the proxy retries later.
    Unavailable,
}

impl RefusalReason {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "NoToken",
            Self::InvalidToken => "InvalidToken",
            Self::ExpiredToken => "ExpiredToken",
            Self::WorkloadNotFound => "WorkloadNotFound",
            Self::NodeIdMismatch => "NodeIdMismatch",
            Self::NotInMesh => "NotInMesh",
            Self::TooManyStreams => "TooManyStreams",
            Self::TooManyInitialVersions => "TooManyInitialVersions",
            Self::Unavailable => "Unavailable",
        }
    }

    /// The gRPC status that the client gets.
    pub fn code(self) -> Code {
        match self {
            Self::NoToken | Self::InvalidToken | Self::ExpiredToken => Code::Unauthenticated,
            Self::WorkloadNotFound | Self::NodeIdMismatch | Self::NotInMesh => Code::PermissionDenied,
            Self::TooManyInitialVersions => Code::ResourceExhausted,
            Self::TooManyStreams | Self::Unavailable => Code::Unavailable,
        }
    }

    /// The status as it is sent: its text is the same for every reason with its code, and says nothing of the mesh.
    pub(super) fn status(self) -> Status {
        let text = match self.code() {
            Code::Unauthenticated => "no valid credentials",
            Code::PermissionDenied => "not permitted",
            Code::ResourceExhausted => "too many resources claimed",
            _ => "unavailable, retry later",
        };
        Status::new(self.code(), text)
    }
}
