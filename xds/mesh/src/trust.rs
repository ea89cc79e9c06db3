//! Trust of a mesh: its own trust domain, and for every trust domain the set of root certificates of its identities.
//!
//! Turned into the validation contexts that proxies get over SDS. Contains public certificates only, never a key.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::id::TrustDomain;

/// Trust of one mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Trust {
    /// The trust domain of the mesh; default `cluster.local`.
    pub domain: TrustDomain,
    /// The root certificates by trust domain. A root of one trust domain never authenticates an identity of another
    /// one.
    pub bundles: BTreeMap<TrustDomain, Bundle>,
}

/// Root certificates of one trust domain. It is a set, because two are trusted at the same time while a root is
/// rotated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Bundle {
    /// The root certificates, each one PEM block.
    pub roots: BTreeSet<String>,
}
