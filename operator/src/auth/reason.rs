//! Why a stream is refused, as finely as whoever runs the mesh needs it.
//!
//! Pure. Made by every other module of `auth`; folded into the coarser `Refusal` of the server, which tells the client no
//! more than a gRPC code. Holds no token and no part of one.

use smidge_xds::server::{Refusal, RefusalReason};

/// The reasons; each is a metric label and a log field by its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No `authorization` in the request.
    NoToken,
    /// Not one bearer token, or not a token at all.
    Malformed,
    /// Signed in a way that the key does not allow, `none` included.
    Algorithm,
    /// Signed, but not by the key that it names.
    BadSignature,
    /// Signed by a key that the issuer does not publish.
    UnknownKey,
    /// The API server does not know the token.
    Rejected,
    /// Meant for somebody else.
    WrongAudience,
    /// Over.
    Expired,
    /// Not valid yet.
    NotYetValid,
    /// Of a `ServiceAccount`, but of no pod.
    NotPodBound,
    /// No such pod.
    PodUnknown,
    /// A pod of that name exists; the token is of one before it.
    UidMismatch,
    /// The pod has another `ServiceAccount` than the token.
    AccountMismatch,
    /// The pod has ended.
    PodEnded,
    /// Neither the issuer's keys nor the API server could be asked.
    Unavailable,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 15] = [
        Self::NoToken,
        Self::Malformed,
        Self::Algorithm,
        Self::BadSignature,
        Self::UnknownKey,
        Self::Rejected,
        Self::WrongAudience,
        Self::Expired,
        Self::NotYetValid,
        Self::NotPodBound,
        Self::PodUnknown,
        Self::UidMismatch,
        Self::AccountMismatch,
        Self::PodEnded,
        Self::Unavailable,
    ];

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "NoToken",
            Self::Malformed => "Malformed",
            Self::Algorithm => "Algorithm",
            Self::BadSignature => "BadSignature",
            Self::UnknownKey => "UnknownKey",
            Self::Rejected => "Rejected",
            Self::WrongAudience => "WrongAudience",
            Self::Expired => "Expired",
            Self::NotYetValid => "NotYetValid",
            Self::NotPodBound => "NotPodBound",
            Self::PodUnknown => "PodUnknown",
            Self::UidMismatch => "UidMismatch",
            Self::AccountMismatch => "AccountMismatch",
            Self::PodEnded => "PodEnded",
            Self::Unavailable => "Unavailable",
        }
    }

    /// The server's word for it, which decides what the client is told.
    pub fn coarse(self) -> RefusalReason {
        match self {
            Self::NoToken => RefusalReason::NoToken,
            Self::Malformed
            | Self::Algorithm
            | Self::BadSignature
            | Self::UnknownKey
            | Self::Rejected
            | Self::WrongAudience
            | Self::NotYetValid
            | Self::NotPodBound => RefusalReason::InvalidToken,
            Self::Expired => RefusalReason::ExpiredToken,
            Self::PodUnknown | Self::UidMismatch | Self::AccountMismatch | Self::PodEnded => {
                RefusalReason::WorkloadNotFound
            }
            Self::Unavailable => RefusalReason::Unavailable,
        }
    }

    /// The refusal for it; `about` says whose token it was, where that is known.
    pub fn refusal(self, about: &str) -> Refusal {
        let separator = if about.is_empty() { "" } else { ": " };
        Refusal { reason: self.coarse(), detail: format!("{}{separator}{about}", self.as_str()) }
    }
}
