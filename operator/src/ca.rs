//! The built-in certificate authorities.
//!
//! Turns Secrets of the system namespace, or of a folder, into authorities that share nothing: the control plane's, the
//! workloads', the webhooks' and, where there are machines, theirs. Each is a root (ten years) that signs an
//! intermediate (a year, renewed at half of it) that signs leaves (24 hours, renewed between a half and two thirds of
//! that; those of machines 30 days). Used by `runtime`, by the commands for machines and, as `CertSource`, by the xDS
//! server.
//!
//! `issue`, `version`, `renewal`, `pem`, `machine_id` and `secret` are pure; `store` and `root` access the API server or
//! the folder; `authorities`, `source` and `serving` hold the certificates in use, `machines` signs those of machines.
//! Does not decide which proxy may have which identity: `auth` does.

mod authorities;
pub mod issue;
mod machine_id;
mod machines;
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
pub use machine_id::MachineId;
pub use machines::{MACHINE_LIFETIME, MachineCertificate, MachineIssuer};
pub use metrics::Metrics;
pub use secret::AuthorityName;
pub use serving::{STANDALONE_SERVER_NAME, ServingCertificate, ServingError};
pub use source::LeafSource;
pub use store::{Secrets, StoreError, Written};
