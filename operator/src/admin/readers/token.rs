//! Token for the debug pages of a control plane without an API server: whoever can read its state may read the pages.
//!
//! Pure. Used by `readers` and by `smidge status`. The token is derived from the key of the mesh: it needs no file of its
//! own, and all replicas with the same state have the same one. It is compared by a digest, so that the time of a
//! comparison tells nothing about it.

use std::fmt::Write as _;

use axum::{
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::auth;

/// Digest of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    digest: [u8; 32],
}

impl Token {
    /// Creates the token that is derived from `key`.
    pub fn new(key: &[u8]) -> Self {
        Self { digest: Sha256::digest(text(key).as_bytes()).into() }
    }

    /// Admits a request with this token, or returns the response that refuses it.
    #[expect(clippy::result_large_err, reason = "the caller sends it at once")]
    pub(super) fn admit(&self, headers: &HeaderMap, path: &str) -> Result<(), Response> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        let token = value.filter(|_| values.next().is_none()).and_then(|value| auth::bare(value).ok());
        if token.is_some_and(|token| Sha256::digest(token.as_bytes())[..] == self.digest) {
            return Ok(());
        }
        let words = format!(
            "reading {path} needs the token of the control plane's state (hint: `smidge status`, or send \"Authorization: \
             Bearer TOKEN\" with what `smidge status --state DIR --print-token` prints)\n"
        );
        Err((StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], words).into_response())
    }
}

/// Returns the text of the token that is derived from `key`, in hexadecimal digits.
pub fn text(key: &[u8]) -> Zeroizing<String> {
    // At full length, because a text that grows leaves its old allocation behind unwiped.
    let text = Zeroizing::new(String::with_capacity(2 * key.len()));
    key.iter().fold(text, |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
