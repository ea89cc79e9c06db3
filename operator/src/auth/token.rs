//! Turns the text of a token into its parts: header, claims and signature.
//!
//! First step of `auth`; `keys` verifies the signature and `claims` judges the rest. Pure, and total on any text that a
//! peer may send. Verifies nothing: until another module has done so, nothing in here is trusted.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::reason::Reason;

/// Maximum size of a token, in bytes. The cluster's are about 1 KiB; Envoy's headers end at 60 KiB.
const LONGEST: usize = 16 * 1024;

/// Token in the compact form of RFC 7515, split into its parts. Its `Debug` output is redacted.
pub struct Token<'a> {
    text: &'a str,
    signed: &'a str,
    signature: Vec<u8>,
    header: Header,
    claims: Claims,
}

/// Header of a token: algorithm and key of its signature.
#[derive(Debug, Deserialize)]
pub struct Header {
    /// Name of the algorithm.
    pub alg: String,
    /// Name of the key.
    pub kid: Option<String>,
    /// Extensions that a reader must understand; this one understands none.
    crit: Option<serde::de::IgnoredAny>,
}

/// Claims of a token of a Kubernetes `ServiceAccount`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// Issuer of the token.
    pub iss: String,
    /// Audiences of the token.
    #[serde(default)]
    pub aud: Audiences,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
    /// Expiry of the token, in seconds since 1970.
    pub exp: i64,
    /// Start of its validity, in seconds since 1970.
    #[serde(default)]
    pub nbf: i64,
    /// Objects that Kubernetes binds the token to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Option<Bound>,
}

/// One audience or several, as RFC 7519 allows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Audiences {
    /// One audience, in the short form.
    One(String),
    /// Any number of audiences.
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Audiences {
    /// Returns true if `wanted` is one of the audiences.
    pub fn contain(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

/// Objects that a token is bound to: it is valid only while they exist.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Bound {
    /// Namespace of the account, and so of the pod.
    pub namespace: String,
    /// The ServiceAccount.
    pub serviceaccount: Object,
    /// The pod, if the token was issued for one.
    pub pod: Option<Object>,
}

/// An object in the namespace of the token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Object {
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
}

impl<'a> Token<'a> {
    /// Splits `text` into its parts.
    pub fn parse(text: &'a str) -> Result<Self, Reason> {
        if text.len() > LONGEST {
            return Err(Reason::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Reason::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Reason::Malformed)?;
        let header: Header = part(header)?;
        if header.crit.is_some() || claims.contains('.') {
            return Err(Reason::Malformed);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Reason::Malformed)?;
        Ok(Self { text, signed, signature, header, claims: part(claims)? })
    }

    /// Returns the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Returns the bytes that are signed.
    pub fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }

    /// Returns the signature of these bytes.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Returns the text, for the API server to review.
    pub fn expose(&self) -> &str {
        self.text
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Reason> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Reason::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Reason::Malformed)
}
