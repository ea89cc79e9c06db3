//! Whom a mesh trusts: its own domain, and for every domain the set of roots that may vouch for its names.
//!
//! Becomes the validation contexts that proxies get over SDS. Holds public certificates only, never a key.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::id::TrustDomain;

/// The trust of one mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Trust {
    /// The mesh's own domain; default `cluster.local`.
    pub domain: TrustDomain,
    /// The roots by domain. A root of one domain never vouches for a name of another.
    pub bundles: BTreeMap<TrustDomain, Bundle>,
}

/// The roots of one trust domain. A set, because two are trusted at once while a root is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Bundle {
    /// Root certificates, each one PEM block.
    pub roots: BTreeSet<String>,
}
