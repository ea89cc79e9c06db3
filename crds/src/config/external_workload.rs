//! `smidge.mesh/v1alpha1`: `ExternalWorkload`, a workload on a machine that no Kubernetes manages. Served and stored.

use kube_core::NamespaceResourceScope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::v1alpha1::VERSION;
use crate::{
    number::Number,
    object::{Kind, Object, or_default},
};

/// Workload on a machine that no Kubernetes manages.
pub type ExternalWorkload = Object<ExternalWorkloadSpec>;

/// Specification of an `ExternalWorkload`: its identity, and where it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["addresses"]))]
pub struct ExternalWorkloadSpec {
    /// The ServiceAccount of its namespace whose identity it has, as a pod that runs under it. Defaults to default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// The IP addresses of the machine, at most one of each family. Services send to the first. A namespace must not
    /// claim the address of a pod, or of an older ExternalWorkload.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<String>,
    /// The network in which the addresses are reached. Empty (the default) is that of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The ports on which the workload serves. Services refer to them by number or name, as to a pod's.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ExternalPort>,
    /// The credential with which the machine's proxy proves that it is this workload.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "ExternalCredential::is_empty")]
    pub credential: ExternalCredential,
}

/// Port of an external workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["port"]))]
pub struct ExternalPort {
    /// The name by which a Service's targetPort refers to the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The number of the port, from 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Number>,
    /// The transport protocol. Only TCP (the default) is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The protocol of the application, as the appProtocol of a Service's port. Where a Service sends to the port, what
    /// the Service declares is in effect instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// Credential of an external workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ExternalCredential {
    /// The only key that the machine may have: sha256: and the digest of the key's SubjectPublicKeyInfo, in 64
    /// hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

impl ExternalCredential {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Error of reading the pin of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pin of a key: expected sha256: and 64 hexadecimal digits")]
pub struct InvalidPin(pub String);

/// Returns the digest of the only key that the machine of a workload may have; `None` if the object pins none.
pub fn pinned_key(spec: &ExternalWorkloadSpec) -> Result<Option<[u8; 32]>, InvalidPin> {
    let Some(text) = spec.credential.public_key.as_deref() else { return Ok(None) };
    let digest = text.strip_prefix("sha256:").and_then(digest);
    digest.map(Some).ok_or_else(|| InvalidPin(text.to_owned()))
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut values =
        digits.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()));
    let mut digest = [0; 32];
    for byte in &mut digest {
        let (high, low) = (values.next()??, values.next()??);
        *byte = high << 4 | low;
    }
    values.next().is_none().then_some(digest)
}

impl Kind for ExternalWorkloadSpec {
    type Scope = NamespaceResourceScope;

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "ExternalWorkload";
    const PLURAL: &'static str = "externalworkloads";
    const SHORT_NAME: Option<&'static str> = Some("ew");
    const DESCRIPTION: &'static str = "A workload on a machine that no Kubernetes manages. It is in the mesh, with the identity of a ServiceAccount of its namespace; Services select it by its labels, as they do pods.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[
        ("Account", "The ServiceAccount.", ".spec.serviceAccount"),
        ("Address", "The first address.", ".spec.addresses[0]"),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(text: &str) -> Result<Option<[u8; 32]>, InvalidPin> {
        let credential = ExternalCredential { public_key: Some(text.to_owned()) };
        pinned_key(&ExternalWorkloadSpec { credential, ..ExternalWorkloadSpec::default() })
    }

    #[test]
    fn a_pin_is_a_digest_in_hexadecimal_digits() {
        assert_eq!(pinned_key(&ExternalWorkloadSpec::default()), Ok(None));
        let mut digest = [0xab; 32];
        assert_eq!(pin(&format!("sha256:{}", "aB".repeat(32))), Ok(Some(digest)));
        digest = [0; 32];
        digest[0] = 1;
        assert_eq!(pin(&format!("sha256:01{}", "0".repeat(62))), Ok(Some(digest)));
    }

    #[test]
    fn any_other_text_is_refused_and_pins_nothing_else() {
        let digits = "0".repeat(63);
        for text in [
            String::new(),
            "sha256:".to_owned(),
            format!("sha256:{digits}"),
            format!("sha256:{digits}00"),
            format!("sha256:{digits}g"),
            format!("sha256:{digits}é"),
            format!("sha512:{digits}0"),
            format!(" sha256:{digits}0"),
            format!("{digits}0"),
        ] {
            assert_eq!(pin(&text), Err(InvalidPin(text.clone())), "{text}");
        }
    }
}
