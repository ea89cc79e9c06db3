//! Turns issuer and renewal time of a leaf into the version of its secret, and such a version back into them.
//!
//! Pure. A version names the leaf's issuer and renewal time, with a MAC under a key that all replicas share over these
//! and the identity. So a replica that never saw the leaf can decide from `initial_resource_versions` that the proxy's
//! is still good, and sends nothing; and no client can forge a version for a leaf of its own. Does not hold the leaf,
//! and does not check that the issuer is still trusted: its caller does.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use smidge_xds::mesh::id::SpiffeId;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::issue::IssuerDigest;

/// Separates this use of the mesh's key from any other one.
const CONTEXT: &[u8] = b"smidge secret version 1\0";

/// Key of the mesh, which authenticates versions. Its `Debug` output is redacted.
#[derive(Clone)]
pub struct MeshKey(hmac::Key);

impl MeshKey {
    /// Number of random bytes that a new key needs.
    pub const LENGTH: usize = 32;

    /// Creates the key from these bytes; `None` if their number is wrong.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == Self::LENGTH).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// Derives a key for one more use. Nothing that is made under it reveals anything about the mesh's own, or another
    /// use's.
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; Self::LENGTH]> {
        let mut derived = Zeroizing::new([0; Self::LENGTH]);
        derived.copy_from_slice(
            hmac::sign(&self.0, format!("smidge derived key 1\0{label}").as_bytes()).as_ref(),
        );
        derived
    }

    /// Derives the key of the token for the debug pages of a control plane without an API server.
    pub fn debug_key(&self) -> Zeroizing<[u8; Self::LENGTH]> {
        self.derive("debug pages")
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Content of a version: issuer and renewal time of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Issuer of the leaf.
    pub issuer: IssuerDigest,
    /// Time at which the leaf is to be replaced, to the second.
    pub renew_at: OffsetDateTime,
}

impl Stamp {
    /// Returns the version of the leaf of `identity` with this content.
    pub fn version(&self, key: &MeshKey, identity: &SpiffeId) -> String {
        let content = self.content();
        let tag = hmac::sign(&key.0, &message(&content, identity));
        format!("{content}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// Reads `version`, if the mesh made it for `identity` and the issuer is one of `issuers`.
    pub fn read(version: &str, key: &MeshKey, identity: &SpiffeId, issuers: &[IssuerDigest]) -> Option<Self> {
        let (content, tag) = version.rsplit_once('.')?;
        hmac::verify(&key.0, &message(content, identity), &URL_SAFE_NO_PAD.decode(tag).ok()?).ok()?;
        let (issuer, renew_at) = content.split_once('.')?;
        let issuer = issuers.iter().copied().find(|known| known.to_string() == issuer)?;
        let renew_at = OffsetDateTime::from_unix_timestamp(renew_at.parse().ok()?).ok()?;
        Some(Self { issuer, renew_at })
    }

    fn content(&self) -> String {
        format!("{}.{}", self.issuer, self.renew_at.unix_timestamp())
    }
}

/// Builds the authenticated message. No part can be confused with another: the context ends in a zero byte, `content`
/// has no line break.
fn message(content: &str, identity: &SpiffeId) -> Vec<u8> {
    [CONTEXT, content.as_bytes(), b"\n", identity.to_string().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;

    use super::*;

    fn identity(account: &str) -> SpiffeId {
        format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
    }

    fn stamp() -> Stamp {
        let issuer = IssuerDigest::of(&CertificateDer::from(b"an issuer".as_slice()));
        Stamp { issuer, renew_at: OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap() }
    }

    #[test]
    fn another_replica_reads_what_one_wrote() {
        let key = MeshKey::new(&[7; 32]).unwrap();
        let version = stamp().version(&key, &identity("web"));
        let replica = MeshKey::new(&[7; 32]).unwrap();
        assert_eq!(Stamp::read(&version, &replica, &identity("web"), &[stamp().issuer]), Some(stamp()));
        assert!(!version.contains('+'), "a plus would cut the version short in Version::is_held_as");
    }

    #[test]
    fn a_version_of_another_identity_key_issuer_or_time_is_none() {
        let key = MeshKey::new(&[7; 32]).unwrap();
        let known = [stamp().issuer];
        let version = stamp().version(&key, &identity("web"));
        assert_eq!(Stamp::read(&version, &key, &identity("db"), &known), None);
        assert_eq!(Stamp::read(&version, &MeshKey::new(&[8; 32]).unwrap(), &identity("web"), &known), None);
        assert_eq!(Stamp::read(&version, &key, &identity("web"), &[]), None);
        let later = version.replace("1800000000", "1900000000");
        assert_eq!(Stamp::read(&later, &key, &identity("web"), &known), None);
    }

    #[test]
    fn derived_keys_are_the_same_on_every_replica_and_differ_by_use() {
        let derive = |byte, label| MeshKey::new(&[byte; 32]).unwrap().derive(label);
        assert_eq!(derive(7, "probes"), derive(7, "probes"));
        assert_ne!(derive(7, "probes"), derive(8, "probes"));
        assert_ne!(derive(7, "probes"), derive(7, "others"));
    }

    #[test]
    fn junk_is_no_version() {
        let key = MeshKey::new(&[7; 32]).unwrap();
        for text in ["", ".", "..", "a.b.c", "0000000000000000.99999999999999999999.00", "💥.1.2"] {
            assert_eq!(Stamp::read(text, &key, &identity("web"), &[stamp().issuer]), None, "{text:?}");
        }
        assert!(MeshKey::new(&[7; 31]).is_none());
    }
}
