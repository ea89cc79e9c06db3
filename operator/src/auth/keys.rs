//! Turns the key set of an issuer (RFC 7517) into keys, and verifies the signatures of tokens with them.
//!
//! Filled by `issuer`, used by `claims`. Pure. The key decides which algorithms it may be used with, never the token: a
//! token can only name one of them. There are no secret keys in a key set, so there is no HMAC here.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

use super::{reason::Reason, token::Token};

/// Name and keys of an issuer.
#[derive(Debug, Clone)]
pub struct Known {
    /// Name of the issuer, as in the `iss` claim.
    pub issuer: String,
    /// Public keys of the issuer.
    pub keys: KeySet,
}

/// Keys of an issuer by name.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: BTreeMap<String, Key>,
    /// True if there are keys, and each of them can be used here: a token that none of them signed is not the issuer's.
    complete: bool,
}

/// Result of verifying a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// The key made the signature.
    Good,
    /// The key did not make the signature, or does not allow its algorithm.
    Bad(Reason),
    /// The set has no such key, and each of its keys can be used here. API servers sign tokens of pods only with keys
    /// that they publish.
    UnknownKey,
    /// The set has no such key, but may have one that cannot be used here.
    Undecided,
}

#[derive(Debug, Clone)]
struct Key {
    /// The only algorithm that the set allows for the key, if it names one.
    only: Option<String>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Parses the usable keys of a key set; `None` if the text is not a key set. Keys of unknown kinds are left out, so
    /// that a new kind beside the old one does no harm.
    pub fn parse(text: &str) -> Option<Self> {
        let Jwks { keys } = serde_json::from_str(text).ok()?;
        let published = keys.len();
        let keys = keys.into_iter().filter_map(|mut jwk| Some((jwk.kid.take()?, Key::of(&jwk)?)));
        let keys: BTreeMap<String, Key> = keys.collect();
        Some(Self { complete: published > 0 && keys.len() == published, keys })
    }

    /// Verifies the signature of `token` with the key that the token names.
    pub fn verify(&self, token: &Token<'_>) -> Signature {
        let header = token.header();
        if header.alg.eq_ignore_ascii_case("none") {
            return Signature::Bad(Reason::Algorithm);
        }
        match header.kid.as_ref().and_then(|kid| self.keys.get(kid)) {
            Some(key) => key.verify(&header.alg, token.signed(), token.signature()),
            None if self.complete => Signature::UnknownKey,
            None => Signature::Undecided,
        }
    }
}

impl Key {
    fn of(jwk: &Jwk) -> Option<Self> {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                Material::Rsa { modulus: number(jwk.n.as_ref())?, exponent: number(jwk.e.as_ref())? }
            }
            ("EC", Some("P-256")) => Material::P256(point(jwk, 32)?),
            ("EC", Some("P-384")) => Material::P384(point(jwk, 48)?),
            _ => return None,
        };
        Some(Self { only: jwk.alg.clone(), material })
    }

    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> Signature {
        if self.only.as_ref().is_some_and(|only| only != algorithm) {
            return Signature::Bad(Reason::Algorithm);
        }
        let result = match (&self.material, algorithm) {
            (Material::Rsa { modulus: n, exponent: e }, _) => {
                let Some(parameters) = rsa(algorithm) else { return Signature::Bad(Reason::Algorithm) };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Material::P256(point), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Material::P384(point), "ES384") => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
            }
            _ => return Signature::Bad(Reason::Algorithm),
        };
        result.map_or(Signature::Bad(Reason::BadSignature), |()| Signature::Good)
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    match algorithm {
        "RS256" => Some(&RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Some(&RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Some(&RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}

/// Returns the bytes of a base64url number without leading zeros, which the verifier does not accept.
fn number(text: Option<&String>) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text?).ok()?;
    let number: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    (!number.is_empty()).then_some(number)
}

/// Returns the uncompressed point of an elliptic curve key whose coordinates have `size` bytes.
fn point(jwk: &Jwk, size: usize) -> Option<Vec<u8>> {
    let mut point = vec![4];
    for coordinate in [&jwk.x, &jwk.y] {
        let bytes = URL_SAFE_NO_PAD.decode(coordinate.as_ref()?).ok()?;
        if bytes.len() != size {
            return None;
        }
        point.extend(bytes);
    }
    Some(point)
}
