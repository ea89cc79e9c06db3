//! A proxy's own certificate and key, encoded for SDS.
//!
//! Made by the server from what the certificate source issued, handed to the one session that it belongs to, moved into
//! one response and wiped when that has been encoded. Cannot be cloned, printed or compared.

use std::fmt;

use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{Secret as EnvoySecret, TlsCertificate, secret},
};
use prost::Message;
use zeroize::{Zeroize, Zeroizing};

use super::{IDENTITY, topic::Offer};
use crate::resources::Version;

/// An encoded `envoy.extensions.transport_sockets.tls.v3.Secret` with a private key in it.
pub struct Secret {
    /// The version that the certificate source gave it.
    pub version: Version,
    body: Zeroizing<Vec<u8>>,
}

impl Secret {
    /// Builds the secret called `identity` from a PEM chain and a PEM key.
    pub fn new(version: Version, chain: &str, key: &str) -> Self {
        let inline = |text: &str| DataSource {
            specifier: Some(Specifier::InlineBytes(text.as_bytes().to_vec())),
            ..DataSource::default()
        };
        let mut message = EnvoySecret {
            name: IDENTITY.to_owned(),
            r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
                certificate_chain: Some(inline(chain)),
                private_key: Some(inline(key)),
                ..TlsCertificate::default()
            })),
        };
        // `encode_to_vec` reserves the exact length first, so that no smaller buffer with key bytes is left behind.
        let body = Zeroizing::new(message.encode_to_vec());
        wipe_key(&mut message);
        Self { version, body }
    }

    /// Returns the encoded message.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

fn wipe_key(message: &mut EnvoySecret) {
    let Some(secret::Type::TlsCertificate(certificate)) = &mut message.r#type else { return };
    let Some(Specifier::InlineBytes(key)) =
        certificate.private_key.as_mut().and_then(|source| source.specifier.as_mut())
    else {
        return;
    };
    key.zeroize();
}

/// The proxy's own certificate, as far as this stream knows it.
#[derive(Debug, Default)]
pub(super) enum Own {
    #[default]
    Missing,
    /// The client has it; the key is wiped here.
    Held,
    /// To be sent.
    Ready(Secret),
}

impl Own {
    pub(super) fn offer(&self) -> Offer<'_> {
        match self {
            Self::Ready(secret) => Offer::Present(&secret.version),
            Self::Missing | Self::Held => Offer::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_holds_chain_and_key_and_prints_neither() {
        let secret = Secret::new(Version::new("v"), "CHAIN", "KEY");
        assert_eq!(format!("{secret:?}"), "Secret([redacted])");
        let message = EnvoySecret::decode(secret.body()).unwrap();
        assert_eq!(message.name, IDENTITY);
        let Some(secret::Type::TlsCertificate(certificate)) = message.r#type else {
            panic!("no certificate")
        };
        let bytes = |source: Option<DataSource>| match source.unwrap().specifier.unwrap() {
            Specifier::InlineBytes(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(bytes(certificate.certificate_chain), b"CHAIN");
        assert_eq!(bytes(certificate.private_key), b"KEY");
    }
}
