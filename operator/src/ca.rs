//! The built-in certificate authorities.
//!
//! Turns Secrets of the system namespace, or of a folder, into three authorities that share nothing: the control plane's, the
//! workloads' and the webhooks'. Each is a root (ten years) that signs an intermediate (a year, renewed at half of it)
//! that signs leaves (24 hours, renewed between a half and two thirds of that). Used by `runtime` and, as
//! `CertSource`, by the xDS server.
//!
//! `issue`, `version`, `renewal`, `pem` and `secret` are pure; `store` and `root` access the API server or the folder; `authorities`,
//! `source` and `serving` hold the certificates in use. Does not decide which proxy may have which identity: `auth`
//! does.

mod authorities;
pub mod issue;
mod metrics;
pub mod pem;
pub mod renewal;
pub mod root;
pub mod secret;
mod serving;
mod source;
mod store;
pub mod version;

pub use authorities::{Authorities, open};
pub use metrics::Metrics;
pub use serving::{ServingCertificate, ServingError};
pub use source::LeafSource;
pub use store::{Secrets, StoreError, Written};
