//! Turns the text of a token into its parts: what it says, and what vouches for that.
//!
//! First step of `auth`; `keys` verifies the signature and `claims` judges the rest. Pure, and total on any text that a
//! peer may send. Believes nothing: until somebody has verified it, all that is in here is hearsay.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::reason::Reason;

/// The longest token that is looked at. The cluster's are about 1 KiB; Envoy's headers end at 60 KiB.
const LONGEST: usize = 16 * 1024;

/// A token in the compact form of RFC 7515, taken apart. Prints nothing.
pub struct Token<'a> {
    text: &'a str,
    signed: &'a str,
    signature: Vec<u8>,
    header: Header,
    claims: Claims,
}

/// How a token says it was signed.
#[derive(Debug, Deserialize)]
pub struct Header {
    /// The algorithm.
    pub alg: String,
    /// The name of the key.
    pub kid: Option<String>,
    /// Extensions that a reader must understand; we understand none.
    crit: Option<serde::de::IgnoredAny>,
}

/// What a token of a Kubernetes `ServiceAccount` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// Whom it is for.
    #[serde(default)]
    pub aud: Audiences,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// When it begins.
    #[serde(default)]
    pub nbf: i64,
    /// What Kubernetes binds it to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Option<Bound>,
}

/// One audience or several, as RFC 7519 allows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Audiences {
    /// The short form of one.
    One(String),
    /// Any number.
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Audiences {
    /// Whether `wanted` is one of them.
    pub fn contain(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

/// The objects that a token lives and dies with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Bound {
    /// The namespace of the account, and so of the pod.
    pub namespace: String,
    /// The account.
    pub serviceaccount: Object,
    /// The pod, if it was issued for one.
    pub pod: Option<Object>,
}

/// An object in the namespace of the token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Which one of that name.
    pub uid: String,
}

impl<'a> Token<'a> {
    /// The parts of `text`.
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

    /// How it says it was signed.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The bytes that are signed.
    pub fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }

    /// The signature over them.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The text, for the API server to review.
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
