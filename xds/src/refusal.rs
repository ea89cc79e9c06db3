//! Reasons for which a stream is refused, as logs, metrics and clients have them.
//!
//! Given by `server` and by its `Authenticator`; counted by `metrics`. Refuses nothing itself.

use tonic::{Code, Status};

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
    pub(crate) fn status(self) -> Status {
        let text = match self.code() {
            Code::Unauthenticated => "no valid credentials",
            Code::PermissionDenied => "not permitted",
            Code::ResourceExhausted => "too many resources claimed",
            _ => "unavailable, retry later",
        };
        Status::new(self.code(), text)
    }
}
