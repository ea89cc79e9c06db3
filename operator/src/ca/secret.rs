//! Turns the Secrets of the system namespace into authorities, and new authorities into Secrets.
//!
//! Used by `root`, which reads and writes them. Pure. A Secret that cannot be read is an error that names it and the
//! field, never a reason to replace it: the user who broke it may still have the key that a whole mesh trusts.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::ObjectMeta;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use smidge_xds::mesh::id::TrustDomain;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroize as _;

use super::{
    issue::{Issuer, IssuerDigest},
    pem,
    version::MeshKey,
};

/// Name of the Secret with the key of the mesh, which authenticates the versions of leaves.
pub const MESH_KEY: &str = "smidge-mesh-key";

const ACTIVE: [&str; 2] = ["active.crt", "active.key"];
const STANDBY: [&str; 2] = ["standby.crt", "standby.key"];
const ISSUER: [&str; 2] = ["issuer.crt", "issuer.key"];
const PREVIOUS: &str = "previous.crt";
const KEY: &str = "key";

/// One of the authorities. Peers that trust one never accept what another one signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthorityName {
    /// Signs the certificates that the control plane presents to proxies; its roots are in every bootstrap.
    ControlPlane,
    /// Signs the certificates that workloads present to each other; its bundle is sent over SDS.
    Workloads,
    /// Signs the certificates that the webhooks present to the API server.
    Webhooks,
    /// Signs the certificates that machines present to the control plane. Opened only where there are machines.
    Machines,
}

impl AuthorityName {
    /// Returns the name in Secrets, certificates, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Workloads => "workloads",
            Self::Webhooks => "webhooks",
            Self::Machines => "machines",
        }
    }

    /// Returns the name of the Secret that holds its roots.
    pub fn root_secret(self) -> String {
        format!("smidge-root-{}", self.as_str())
    }

    /// Returns the name of the Secret that holds its intermediate.
    pub fn issuer_secret(self) -> String {
        format!("smidge-issuer-{}", self.as_str())
    }

    /// Returns true if a second root is trusted from the start. A bootstrap cannot be changed while its pod lives, so
    /// the control plane's next root must already be in it; the others' bundles can be changed at any time.
    pub fn has_standby(self) -> bool {
        self == Self::ControlPlane
    }
}

impl fmt::Display for AuthorityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error in the content of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid Secret {secret}: {field}: {problem}{}", self.hint())]
pub struct Malformed {
    /// Name of the Secret.
    pub secret: String,
    /// Key in its data.
    pub field: &'static str,
    /// Description of the error; contains nothing of the content.
    pub problem: &'static str,
}

impl Malformed {
    fn hint(&self) -> &'static str {
        if self.secret.starts_with("smidge-issuer-") {
            " (hint: an intermediate is made anew when its Secret is deleted)"
        } else {
            " (hint: restore it from a backup; deleting it ends the trust of everything issued under it)"
        }
    }
}

/// The roots of an authority.
#[derive(Debug)]
pub struct Roots {
    /// The root that signs.
    pub active: Issuer,
    /// The root that is already trusted and signs next.
    pub standby: Option<Issuer>,
}

impl Roots {
    /// Returns their certificates as PEM, the active one first.
    pub fn certificates(&self) -> Vec<String> {
        std::iter::once(&self.active).chain(&self.standby).map(|root| root.pem().to_owned()).collect()
    }

    /// Reads the roots in `secret`. With a `domain`, the active one must be an authority of it.
    pub fn read(
        name: &str,
        secret: &Secret,
        domain: Option<&TrustDomain>,
        now: OffsetDateTime,
    ) -> Result<Self, Malformed> {
        let malformed = |problem| Malformed { secret: name.to_owned(), field: ACTIVE[0], problem };
        let active = issuer(name, secret, ACTIVE)?;
        if active.not_after() <= now {
            return Err(malformed("expired"));
        }
        if domain.is_some_and(|domain| !speaks_for(active.certificate(), domain)) {
            return Err(malformed("made for another trust domain"));
        }
        let has_standby = STANDBY.iter().any(|field| data(secret).contains_key(*field));
        let standby = has_standby.then(|| issuer(name, secret, STANDBY)).transpose()?;
        Ok(Self { active, standby })
    }
}

/// Builds the Secret of new roots. Each is a certificate and its key.
pub fn write_roots(name: &str, active: (&Issuer, &KeyPair), standby: Option<(&Issuer, &KeyPair)>) -> Secret {
    let mut fields = pair(ACTIVE, active);
    fields.extend(standby.map(|standby| pair(STANDBY, standby)).unwrap_or_default());
    secret(name, fields)
}

/// The intermediate of an authority, and the issuers whose leaves are still accepted.
#[derive(Debug)]
pub struct Issuing {
    /// The intermediate that signs leaves.
    pub issuer: Issuer,
    /// The intermediate before it, while its leaves are still in use.
    pub previous: Option<IssuerDigest>,
}

impl Issuing {
    /// Returns every issuer whose leaves need no replacement.
    pub fn accepted(&self) -> Vec<IssuerDigest> {
        std::iter::once(self.issuer.digest()).chain(self.previous).collect()
    }

    /// Reads the intermediate in `secret`. It must be signed by one of `roots`; it may have expired, as that is no
    /// damage but a long absence, and makes it due.
    pub fn read(name: &str, secret: &Secret, roots: &[CertificateDer<'_>]) -> Result<Self, Malformed> {
        let issuer = issuer(name, secret, ISSUER)?;
        if !roots.iter().any(|root| is_signed_by(issuer.certificate(), root)) {
            let problem = "not signed by a root of its authority";
            return Err(Malformed { secret: name.to_owned(), field: ISSUER[0], problem });
        }
        let previous = data(secret).get(PREVIOUS).and_then(|text| pem::certificates(&text.0));
        Ok(Self { issuer, previous: previous.and_then(|found| found.first().map(IssuerDigest::of)) })
    }
}

/// Builds the Secret of a new intermediate, which replaces `previous`.
pub fn write_issuing(name: &str, issuer: (&Issuer, &KeyPair), previous: Option<&Issuer>) -> Secret {
    let mut fields = pair(ISSUER, issuer);
    fields.extend(previous.map(|previous| (PREVIOUS.to_owned(), ByteString(previous.pem().into()))));
    secret(name, fields)
}

/// Reads the key of the mesh in `secret`.
pub fn read_mesh_key(name: &str, secret: &Secret) -> Result<MeshKey, Malformed> {
    let malformed = |problem| Malformed { secret: name.to_owned(), field: KEY, problem };
    let bytes = data(secret).get(KEY).ok_or_else(|| malformed("missing"))?;
    MeshKey::new(&bytes.0).ok_or_else(|| malformed("not 32 bytes long"))
}

/// Builds the Secret of a new key of the mesh.
pub fn write_mesh_key(name: &str, bytes: &[u8]) -> Secret {
    secret(name, BTreeMap::from([(KEY.to_owned(), ByteString(bytes.to_vec()))]))
}

/// Wipes the data of a Secret that was read or written.
pub fn wipe(secret: &mut Secret) {
    secret.data.iter_mut().flat_map(BTreeMap::values_mut).for_each(|value| value.0.zeroize());
}

fn secret(name: &str, data: BTreeMap<String, ByteString>) -> Secret {
    let labels = [("app.kubernetes.io/name", "smidge"), ("app.kubernetes.io/managed-by", "smidge")];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

fn pair(fields: [&str; 2], (issuer, key): (&Issuer, &KeyPair)) -> BTreeMap<String, ByteString> {
    let key = pem::PrivateKey::from_pkcs8(key.serialized_der());
    // The Secret's own copy; `wipe` clears it.
    let values = [issuer.pem().as_bytes().to_vec(), key.expose().as_bytes().to_vec()];
    fields.into_iter().map(str::to_owned).zip(values.map(ByteString)).collect()
}

fn data(secret: &Secret) -> &BTreeMap<String, ByteString> {
    static EMPTY: BTreeMap<String, ByteString> = BTreeMap::new();
    secret.data.as_ref().unwrap_or(&EMPTY)
}

fn issuer(name: &str, secret: &Secret, [certificate, key]: [&'static str; 2]) -> Result<Issuer, Malformed> {
    let malformed = |field, problem| Malformed { secret: name.to_owned(), field, problem };
    let field = |field| data(secret).get(field).ok_or_else(|| malformed(field, "missing"));
    let found = pem::certificates(&field(certificate)?.0).and_then(|found| found.into_iter().next());
    let found = found.ok_or_else(|| malformed(certificate, "no PEM certificate"))?;
    let der = pem::private_key(&field(key)?.0).ok_or_else(|| malformed(key, "no PEM key"))?;
    let pair = KeyPair::try_from(der.as_slice()).map_err(|_| malformed(key, "no PEM key"))?;
    let problem = "not the certificate of an authority with the key beside it";
    Issuer::new(found, pair).map_err(|_| malformed(certificate, problem))
}

fn speaks_for(certificate: &CertificateDer<'_>, domain: &TrustDomain) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
    let wanted = format!("spiffe://{domain}");
    matches!(names.value.general_names.as_slice(), [GeneralName::URI(uri)] if *uri == wanted)
}

fn is_signed_by(certificate: &CertificateDer<'_>, signer: &CertificateDer<'_>) -> bool {
    let parsed = (X509Certificate::from_der(certificate), X509Certificate::from_der(signer));
    let (Ok((_, certificate)), Ok((_, signer))) = parsed else { return false };
    certificate.issuer() == signer.subject()
        && certificate.verify_signature(Some(signer.public_key())).is_ok()
}
