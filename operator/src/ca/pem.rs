//! Turns DER into PEM and back, without leaving copies of keys behind.
//!
//! Pure. Used by `issue`, `secret` and `source`, because Envoy accepts keys as PEM only and people read Secrets. Does
//! not parse the DER that it encodes.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use zeroize::Zeroizing;

/// Length of a line of PEM, as RFC 7468 requires.
const LINE: usize = 64;

/// Private key as PEM (PKCS#8). Wiped when dropped; its `Debug` output is redacted.
///
/// The transient copies that the cryptographic library makes on its stack while it generates a key are not wiped.
pub struct PrivateKey(Zeroizing<String>);

impl PrivateKey {
    /// Encodes the key whose PKCS#8 encoding is `der`.
    pub fn from_pkcs8(der: &[u8]) -> Self {
        Self(encode("PRIVATE KEY", der))
    }

    /// Returns the PEM text, for the one place that sends or stores it.
    pub fn expose(self) -> Zeroizing<String> {
        self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Encodes one certificate as PEM.
pub fn certificate(der: &CertificateDer<'_>) -> String {
    std::mem::take(&mut encode("CERTIFICATE", der))
}

/// Decodes every certificate in a PEM text; `None` if the text has none or a malformed one.
pub fn certificates(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

/// Decodes the first private key in a PEM text to DER. Libraries that read PEM do not wipe their buffers.
pub fn private_key(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END")?;
    // Allocated at full length, because a buffer that grows leaves its old allocation behind unwiped.
    let mut encoded = Zeroizing::new(Vec::with_capacity(body.len()));
    encoded.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; encoded.len()]);
    let length = STANDARD.decode_slice(encoded.as_slice(), &mut der).ok()?;
    der.truncate(length);
    Some(der)
}

fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let mut body = Zeroizing::new(vec![0; der.len().div_ceil(3) * 4]);
    // Cannot fail: the buffer has exactly the encoded length, and the output is ASCII.
    let written = STANDARD.encode_slice(der, &mut body).unwrap_or_default();
    body.truncate(written);
    // Reserved in full, because a string that grows leaves its old allocation behind unwiped.
    let length = body.len() + body.len() / LINE + 1 + 2 * (label.len() + "-----BEGIN -----\n".len());
    let mut text = Zeroizing::new(String::with_capacity(length));
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.push_str(part);
    }
    for line in body.chunks(LINE) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_pem_that_others_read_and_prints_nothing() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = PrivateKey::from_pkcs8(pair.serialized_der());
        assert_eq!(format!("{key:?}"), "[redacted]");
        let text = key.expose();
        assert_eq!(rcgen::KeyPair::from_pem(&text).unwrap().serialized_der(), pair.serialized_der());
        assert_eq!(private_key(text.as_bytes()).unwrap().as_slice(), pair.serialized_der());
        assert!(text.lines().all(|line| line.len() <= LINE), "a line is too long");
    }

    #[test]
    fn broken_pem_is_no_certificate() {
        assert_eq!(certificates(b""), None);
        assert_eq!(private_key(b"-----BEGIN PRIVATE KEY-----\n@@\n-----END PRIVATE KEY-----\n"), None);
        assert_eq!(certificates(b"-----BEGIN CERTIFICATE-----\n@@\n-----END CERTIFICATE-----\n"), None);
    }
}
