//! Identifiers of the parts of a mesh, each a type of its own whose `Display` and `FromStr` are inverse.
//!
//! Used by every other module of the model. Does not define what it identifies.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// Error of parsing a text as an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: expected {expected}")]
pub struct InvalidId {
    /// The kind of identifier, for example `SPIFFE id`.
    pub what: &'static str,
    /// The text, unchanged.
    pub value: String,
    /// The expected form.
    pub expected: &'static str,
}

/// Name of a cluster of the mesh. A single cluster is called `local`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ClusterId(pub String);

impl Default for ClusterId {
    fn default() -> Self {
        Self("local".to_owned())
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SPIFFE trust domain, for example `cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TrustDomain(pub String);

impl Default for TrustDomain {
    fn default() -> Self {
        Self("cluster.local".to_owned())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SPIFFE identity of a workload: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// The trust domain, whose root certificates authenticate the identity.
    pub trust_domain: TrustDomain,
    /// The Kubernetes namespace of the ServiceAccount.
    pub namespace: String,
    /// The name of the ServiceAccount.
    pub service_account: String,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, namespace, service_account } = self;
        write!(f, "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parts: Vec<&str> = text.strip_prefix("spiffe://").unwrap_or_default().split('/').collect();
        match parts.as_slice() {
            [domain, "ns", namespace, "sa", account]
                if !domain.is_empty() && !namespace.is_empty() && !account.is_empty() =>
            {
                Ok(Self {
                    trust_domain: TrustDomain((*domain).to_owned()),
                    namespace: (*namespace).to_owned(),
                    service_account: (*account).to_owned(),
                })
            }
            _ => Err(InvalidId {
                what: "SPIFFE id",
                value: text.to_owned(),
                expected: "spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
            }),
        }
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Namespace and name of a Service, written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    /// The namespace of the Service.
    pub namespace: String,
    /// The name of the Service.
    pub name: String,
}

impl ServiceId {
    /// Returns the identifier of the Service `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for ServiceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Identifier of a workload instance that runs a proxy, written `cluster/namespace/instance`.
///
/// For Kubernetes the instance is the name of the Pod; a virtual machine will have a name of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyId {
    /// The cluster that the instance belongs to.
    pub cluster: ClusterId,
    /// The namespace of the instance.
    pub namespace: String,
    /// The name of the instance, unique in its namespace.
    pub instance: String,
}

impl fmt::Display for ProxyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.namespace, self.instance)
    }
}

impl Serialize for ProxyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Identifier of a class of workload instances with the same inbound side, written `namespace/account/digest`.
///
/// The digest is computed from the content of the class, so all replicas of the control plane use the same identifier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ClassId(pub String);

impl fmt::Display for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_id_reads_what_it_writes() {
        let text = "spiffe://cluster.local/ns/bookstore/sa/bookbuyer";
        assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
    }

    #[test]
    fn spiffe_id_refuses_other_shapes() {
        for text in ["", "spiffe://", "spiffe://d/ns//sa/x", "spiffe://d/ns/a/sa/b/c", "http://d/ns/a/sa/b"] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?} was taken");
        }
    }
}
