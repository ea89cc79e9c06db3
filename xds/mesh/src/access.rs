//! Access control: the allow-list of a destination identity, with the callers and the requests that it allows.
//!
//! Turned into the RBAC of inbound ports (through ECDS), and decides which Services a proxy sees. There is no deny
//! rule: what no grant allows is denied (SMI Traffic Access Control, "Tradeoffs", additive policy).

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;

use super::{
    id::SpiffeId,
    matches::{HttpMatch, Matches},
    source::SourceRef,
};

/// Permission of one TrafficTarget. Grants of one destination are a union, each evaluated by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Grant {
    /// The object that grants; its name is that of the policy in logs and statistics.
    pub origin: SourceRef,
    /// The identities that may call. Never empty.
    pub sources: BTreeSet<Arc<SpiffeId>>,
    /// The granted ports of the instance.
    pub ports: Ports,
    /// The granted payload on these ports.
    pub payload: Payload,
}

/// Ports of a grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ports {
    /// Every port.
    All,
    /// Only these; the empty set grants nothing.
    Only(BTreeSet<u16>),
}

impl Ports {
    /// Returns true if `port` is granted.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }
}

/// Payload that a grant allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// Any bytes, HTTP included.
    Any,
    /// Only parsed HTTP that one of the matches matches; never raw TCP. Empty grants nothing.
    Http(BTreeSet<Matches>),
}

impl Payload {
    /// Returns the payload of HTTP requests that one of `list` matches, with all matches under one name.
    pub fn http(name: impl Into<String>, list: impl IntoIterator<Item = HttpMatch>) -> Self {
        Self::Http(BTreeSet::from([Matches::new(name, list.into_iter().map(Arc::new))]))
    }
}

/// Treatment of a call that no grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    /// The call is refused.
    Enforce,
    /// The call is allowed, counted and logged.
    Audit,
    /// The call is allowed: grants are ignored.
    Permissive,
}

impl AccessMode {
    /// Returns true if a call needs a grant.
    pub fn is_enforced(self) -> bool {
        self == Self::Enforce
    }
}

/// Treatment of plaintext callers by a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MtlsMode {
    /// Only mTLS with an identity of the mesh.
    Strict,
    /// Plaintext as well. A plaintext caller has no identity and no grant.
    Permissive,
}
