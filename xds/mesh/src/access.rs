//! Who may call whom, and with what: the allow-list of a destination identity.
//!
//! Becomes the RBAC of inbound ports (through ECDS) and decides which Services a proxy sees. There is no deny rule:
//! what no grant allows is denied (SMI Traffic Access Control, "Tradeoffs", additive policy).

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;

use super::{
    id::SpiffeId,
    matches::{HttpMatch, Matches},
};

/// What one TrafficTarget allows. Grants of one destination are a union, each judged by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Grant {
    /// The object that grants, as `namespace/name`; names the policy in logs and statistics.
    pub name: String,
    /// Who may call. Never empty.
    pub sources: BTreeSet<Arc<SpiffeId>>,
    /// The ports of the instance that are granted.
    pub ports: Ports,
    /// What may be said there.
    pub payload: Payload,
}

/// The ports of a grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ports {
    /// Every port.
    All,
    /// Only these; the empty set grants nothing.
    Only(BTreeSet<u16>),
}

impl Ports {
    /// Whether `port` is granted.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }
}

/// What a grant lets through.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// Any bytes, HTTP included.
    Any,
    /// Only parsed HTTP that one of the matches matches; never raw TCP. Empty grants nothing.
    Http(BTreeSet<Matches>),
}

impl Payload {
    /// HTTP that one of `list` matches, all of them by one name.
    pub fn http(name: impl Into<String>, list: impl IntoIterator<Item = HttpMatch>) -> Self {
        Self::Http(BTreeSet::from([Matches::new(name, list.into_iter().map(Arc::new))]))
    }
}

/// What becomes of a call that no grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    /// It is refused.
    Enforce,
    /// It is let through, counted and logged.
    Audit,
    /// It is let through: nobody looks at grants.
    Permissive,
}

impl AccessMode {
    /// Whether a call needs a grant.
    pub fn is_enforced(self) -> bool {
        self == Self::Enforce
    }
}

/// Whether a destination takes plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MtlsMode {
    /// Only mTLS with an identity of the mesh.
    Strict,
    /// Plaintext as well; such a caller has no identity and no grant.
    Permissive,
}
