//! Reads which identity an ExternalWorkload gives to its machine, and for which key.
//!
//! Pure. Used by the authenticator of machines, which judges by the objects what a certificate proves. A machine whose
//! object has no valid identity has none here; `external_workload` reports that, and decides on the membership.

use smidge_crds::{
    config::{ExternalWorkloadSpec, pinned_key},
    object::Kind as _,
};

use crate::inputs::{Inputs, is_name};

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

impl Machine {
    /// Reads the specification of a machine's object.
    pub fn read(spec: &ExternalWorkloadSpec) -> Option<Self> {
        let account = spec.service_account.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let pinned_key = pinned_key(spec).ok()?;
        is_name(account).then(|| Self { service_account: account.to_owned(), pinned_key })
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
