//! The gRPC shell around `delta::Session`.

mod auth;
mod cert;

pub use auth::{Admission, Authenticator, Refusal, RefusalReason};
pub use cert::{CertSource, Credentials, Holder, IssueError};
