//! Reasons for which a stream is refused, in the detail that administrators of a mesh need.
//!
//! Pure. Created by every other module of `auth`; mapped to the coarser `Refusal` of the server, which sends the client
//! no more than a gRPC code. Holds no token and no part of one.

use smidge_xds::server::{Refusal, RefusalReason};

/// Reasons of a refusal; each is a metric label and a log field by its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The request has no `authorization`.
    NoToken,
    /// The request has not exactly one bearer token, or the token is malformed.
    Malformed,
    /// The token is signed in a way that the key does not allow, `none` included.
    Algorithm,
    /// The token is signed, but not by the key that it names.
    BadSignature,
    /// The token is signed by a key that the issuer does not publish.
    UnknownKey,
    /// The API server does not know the token.
    Rejected,
    /// The token is meant for another audience.
    WrongAudience,
    /// The token or the certificate has expired.
    Expired,
    /// The token or the certificate is not valid yet.
    NotYetValid,
    /// The token belongs to a `ServiceAccount`, but is bound to no pod.
    NotPodBound,
    /// There is no such pod.
    PodUnknown,
    /// A pod of that name exists, but the token is bound to an earlier one.
    UidMismatch,
    /// The pod has another `ServiceAccount` than the token.
    AccountMismatch,
    /// The pod has ended.
    PodEnded,
    /// The connection has no client certificate.
    NoCertificate,
    /// The client certificate cannot be read.
    MalformedCertificate,
    /// The client certificate has not exactly one name, or not that of a machine of this trust domain.
    NotMachine,
    /// There is no object of such a machine.
    MachineUnknown,
    /// The machine's object pins another key.
    KeyMismatch,
    /// Neither the issuer's keys nor the API server could be queried.
    Unavailable,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 20] = [
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
        Self::NoCertificate,
        Self::MalformedCertificate,
        Self::NotMachine,
        Self::MachineUnknown,
        Self::KeyMismatch,
        Self::Unavailable,
    ];

    /// Returns the name for logs and metrics.
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
            Self::NoCertificate => "NoCertificate",
            Self::MalformedCertificate => "MalformedCertificate",
            Self::NotMachine => "NotMachine",
            Self::MachineUnknown => "MachineUnknown",
            Self::KeyMismatch => "KeyMismatch",
            Self::Unavailable => "Unavailable",
        }
    }

    /// Returns the server's coarser reason, which decides the gRPC code that the client receives.
    pub fn coarse(self) -> RefusalReason {
        match self {
            Self::NoToken | Self::NoCertificate => RefusalReason::NoToken,
            Self::Malformed
            | Self::Algorithm
            | Self::BadSignature
            | Self::UnknownKey
            | Self::Rejected
            | Self::WrongAudience
            | Self::NotYetValid
            | Self::NotPodBound
            | Self::MalformedCertificate
            | Self::NotMachine
            | Self::KeyMismatch => RefusalReason::InvalidToken,
            Self::Expired => RefusalReason::ExpiredToken,
            Self::PodUnknown
            | Self::UidMismatch
            | Self::AccountMismatch
            | Self::PodEnded
            | Self::MachineUnknown => RefusalReason::WorkloadNotFound,
            Self::Unavailable => RefusalReason::Unavailable,
        }
    }

    /// Builds the refusal; `about` names the token's account and pod, or the machine, if they are known.
    pub fn refusal(self, about: &str) -> Refusal {
        let separator = if about.is_empty() { "" } else { ": " };
        Refusal { reason: self.coarse(), detail: format!("{}{separator}{about}", self.as_str()) }
    }
}
