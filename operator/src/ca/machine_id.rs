//! Turns the name of a machine into the SPIFFE ID of its certificate, and back.
//!
//! Pure. Used by `issue`, and by `auth` to read what a peer presents. Its path begins with `/machine/`, so it is never
//! the identity of a workload. Does not know which machines exist.

use std::{fmt, str::FromStr};

use smidge_xds::mesh::id::{InvalidId, TrustDomain};

/// Maximum length of a namespace: that of a DNS label.
const LABEL: usize = 63;
/// Maximum length of a name: that of an object.
const NAME: usize = 253;

/// Namespace and name of a machine, written `namespace/name`; both are valid names of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId {
    namespace: String,
    name: String,
}

impl MachineId {
    /// Returns its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns its name, that of its `ExternalWorkload`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the SPIFFE ID of its certificate.
    pub fn uri(&self, domain: &TrustDomain) -> String {
        format!("spiffe://{domain}/machine/{self}")
    }

    /// Reads such an ID of exactly this trust domain. Names of Kubernetes contain nothing that a URI would escape, so
    /// each machine has one ID.
    pub fn from_uri(uri: &str, domain: &TrustDomain) -> Option<Self> {
        let rest = uri.strip_prefix("spiffe://")?.strip_prefix(domain.0.as_str())?;
        rest.strip_prefix("/machine/")?.parse().ok()
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for MachineId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('/') {
            Some((namespace, name))
                if namespace.len() <= LABEL
                    && is_label(namespace)
                    && name.len() <= NAME
                    && name.split('.').all(is_label) =>
            {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(InvalidId {
                what: "machine",
                value: text.to_owned(),
                expected: "NAMESPACE/NAME, each of lower case letters, digits and `-`, the name with `.` as well",
            }),
        }
    }
}

fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let domain = TrustDomain::default();
        for text in ["shop/db-1", "shop/db-1.rack-7.dc1", "0/0"] {
            let machine: MachineId = text.parse().unwrap();
            assert_eq!(machine.to_string(), text);
            assert_eq!(MachineId::from_uri(&machine.uri(&domain), &domain), Some(machine));
        }
    }

    #[test]
    fn whatever_else_is_no_machine() {
        let long = format!("shop/{}", "a".repeat(254));
        for text in [
            "",
            "/",
            "shop",
            "shop/",
            "/db",
            "shop/db/1",
            "shop/DB",
            "shop/db%2f1",
            "shop/-db",
            "shop/db-",
            "shop/d b",
            "shop/..",
            "shop/db.",
            "sh.op/db",
            "shop/dä",
            "shop/db?x",
            "shop/db\0",
            &long,
        ] {
            assert!(text.parse::<MachineId>().is_err(), "{text:?}");
            let uri = format!("spiffe://cluster.local/machine/{text}");
            assert_eq!(MachineId::from_uri(&uri, &TrustDomain::default()), None, "{text:?}");
        }
        for uri in [
            "spiffe://other.domain/machine/shop/db",
            "spiffe://cluster.local.evil/machine/shop/db",
            "spiffe://cluster.local/ns/shop/sa/db",
            "SPIFFE://cluster.local/machine/shop/db",
            "spiffe://cluster.local//machine/shop/db",
            "https://cluster.local/machine/shop/db",
            " spiffe://cluster.local/machine/shop/db",
        ] {
            assert_eq!(MachineId::from_uri(uri, &TrustDomain::default()), None, "{uri:?}");
        }
    }
}
