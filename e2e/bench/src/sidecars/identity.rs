//! Certificates of one run: a root, and a leaf for each side, of the kind that the control plane issues.
//!
//! ECDSA over P-256, one SPIFFE ID. Both configurations use the same files, so that both pay for the same keys.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::pods::Side;

/// Trust domain of both sides.
pub const DOMAIN: &str = "cluster.local";

/// Returns the SPIFFE ID of a side.
pub fn name(side: Side) -> String {
    format!("spiffe://{DOMAIN}/ns/shop/sa/{}", side.name())
}

/// Writes `root.pem`, and `client.pem`, `client.key`, `server.pem` and `server.key`, into `folder`.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{DOMAIN}").try_into()?)];
    let key = KeyPair::generate()?;
    let root = params.self_signed(&key)?;
    fs::write(folder.join("root.pem"), root.pem())?;
    let issuer = Issuer::new(params, key);
    for side in Side::BOTH {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(name(side).try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &issuer)?;
        fs::write(folder.join(format!("{}.pem", side.name())), leaf.pem())?;
        fs::write(folder.join(format!("{}.key", side.name())), key.serialize_pem())?;
    }
    Ok(())
}
