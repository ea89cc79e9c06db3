//! Reasons for which a stream is refused, as logs, metrics and clients see them.
//!
//! Returned by `server` and by its `Authenticator`; counted by `metrics`. Refuses nothing itself.

use tonic::{Code, Status};

/// The reasons for which a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// The stream carries no token, and its connection no certificate.
    NoToken,
    /// The token is not valid: signature, issuer, audience, format. Or the certificate: name, key, format.
    InvalidToken,
    /// The token or certificate was valid and has expired.
    ExpiredToken,
    /// The token or certificate is valid, and its workload instance does not exist (any more).
    WorkloadNotFound,
    /// The token or certificate is valid, and the proxy claims to be another instance.
    NodeIdMismatch,
    /// The instance exists and has no proxy of this mesh.
    NotInMesh,
    /// The proxy has too many streams that do not end, as it reads nothing of them.
    TooManyStreams,
    /// The proxy claims to hold more resources than it can have been sent.
    TooManyInitialVersions,
    /// The token cannot be verified or the stream cannot be served at present; the proxy retries later.
    Unavailable,
}

impl RefusalReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::NoToken,
        Self::InvalidToken,
        Self::ExpiredToken,
        Self::WorkloadNotFound,
        Self::NodeIdMismatch,
        Self::NotInMesh,
        Self::TooManyStreams,
        Self::TooManyInitialVersions,
        Self::Unavailable,
    ];

    /// Returns the word for logs and metrics.
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

    /// Returns the gRPC status code that the client receives.
    pub fn code(self) -> Code {
        match self {
            Self::NoToken | Self::InvalidToken | Self::ExpiredToken => Code::Unauthenticated,
            Self::WorkloadNotFound | Self::NodeIdMismatch | Self::NotInMesh => Code::PermissionDenied,
            Self::TooManyInitialVersions => Code::ResourceExhausted,
            Self::TooManyStreams | Self::Unavailable => Code::Unavailable,
        }
    }

    /// Returns the status that is sent: one text for all reasons of a code, which reveals nothing of the mesh.
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
