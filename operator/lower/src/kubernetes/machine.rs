//! Reads which identity an ExternalWorkload gives to its machine, and for which key.
//!
//! Pure. Used by the authenticator of machines, which judges by the objects what a certificate proves, and by
//! `external_workload`, which reports the defects and decides on the membership: a machine that one of them does not
//! know is none for the other either.

use smidge_crds::{
    config::{ExternalWorkloadSpec, pinned_key},
    object::Kind as _,
};

use crate::{
    finding::Reason,
    inputs::{Inputs, is_name},
};

/// The kind of the objects of machines.
pub const KIND: &str = ExternalWorkloadSpec::KIND;

/// SHA-256 of a key's `SubjectPublicKeyInfo`.
pub type KeyDigest = [u8; 32];

/// Properties of a machine's object that decide on its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The ServiceAccount of its namespace whose identity it has; a valid name.
    pub service_account: String,
    /// The only key that it may have; `None`: any that the authority of machines has certified for it.
    pub pinned_key: Option<KeyDigest>,
}

/// Defect for which a machine has no identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Defect {
    pub(crate) reason: Reason,
    /// Path of the field.
    pub(crate) field: &'static str,
    pub(crate) message: String,
}

impl Machine {
    /// Reads the specification of a machine's object.
    pub fn read(spec: &ExternalWorkloadSpec) -> Option<Self> {
        Self::examine(spec).ok()
    }

    /// Reads the specification of a machine's object; returns every defect if there is no valid identity in it.
    pub(crate) fn examine(spec: &ExternalWorkloadSpec) -> Result<Self, Vec<Defect>> {
        let account = spec.service_account.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let invalid_account = (!is_name(account)).then(|| Defect {
            reason: Reason::InvalidName,
            field: "spec.serviceAccount",
            message: format!(
                "{account:?} is no name of a ServiceAccount: expected lower-case letters, digits, '-' and '.'; without an \
                 identity, the workload is not in the mesh"
            ),
        });
        let pinned_key = pinned_key(spec).map_err(|error| Defect {
            reason: Reason::InvalidCredential,
            field: "spec.credential.publicKey",
            message: format!("{error}; as no key can be that one, the workload is not in the mesh"),
        });
        match (invalid_account, pinned_key) {
            (None, Ok(pinned_key)) => Ok(Self { service_account: account.to_owned(), pinned_key }),
            (invalid_account, pinned_key) => {
                Err(invalid_account.into_iter().chain(pinned_key.err()).collect())
            }
        }
    }

    /// Finds a machine among the objects of a cluster.
    pub fn find(inputs: &Inputs, namespace: &str, name: &str) -> Option<Self> {
        let object = inputs.external_workloads.get(&(namespace.to_owned(), name.to_owned()))?;
        Self::read(&object.spec)
    }

    /// Returns true if it may have the key with this digest.
    pub fn accepts(&self, key: &KeyDigest) -> bool {
        self.pinned_key.is_none_or(|pinned| pinned == *key)
    }
}
