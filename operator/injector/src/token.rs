//! Turns a check and the owner of its pod into the token in its path, so that only a user who may read the pod can call
//! it.
//!
//! A MAC under a key of the mesh: every replica computes the same one, also after a restart, and a client that knows
//! the definition of a probe cannot compute it. Does not create the key: its caller does; `ca::version` has the mesh's.

use std::fmt::{self, Write};

use ring::{
    digest::{SHA256, digest},
    hmac,
};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// Size of a token, in bytes: 128 bits cannot be guessed over a network.
const LENGTH: usize = 16;

/// Key under which tokens are made. Its `Debug` output is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct ProbeKey(Zeroizing<[u8; 32]>);

impl ProbeKey {
    /// Creates the key from these bytes, which are random or derived from a key.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// Derives the key from a secret of any length.
    pub fn from_secret(secret: &[u8]) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(digest(&SHA256, secret).as_ref());
        Self(bytes)
    }

    /// Computes the token of a check as its owner wrote it. Parts are quoted, so that none can be confused with
    /// another.
    pub(super) fn token(&self, pod: &Owner, check: &str, definition: &Map<String, Value>) -> String {
        let Owner { namespace, account } = pod;
        let message = json!([namespace, account, check, definition]).to_string();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref()), message.as_bytes());
        tag.as_ref().iter().take(LENGTH).fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Owner of a pod, as far as known at injection: the pod's name is not known, and its labels may still change.
pub(super) struct Owner<'a> {
    pub(super) namespace: &'a str,
    pub(super) account: String,
}

impl<'a> Owner<'a> {
    pub(super) fn of(pod: &Value, namespace: &'a str) -> Self {
        let account = |field: &str| pod.get("spec")?.get(field)?.as_str().filter(|name| !name.is_empty());
        let account = account("serviceAccountName").or_else(|| account("serviceAccount"));
        Self { namespace, account: account.unwrap_or("default").to_owned() }
    }
}

/// Returns true if a text has the form of a token.
pub(super) fn is_token(text: &str) -> bool {
    text.len() == 2 * LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(secret: &str, namespace: &str, account: &str, check: &str, path: &str) -> String {
        let pod = Owner { namespace, account: account.to_owned() };
        let definition = json!({"httpGet": {"path": path}});
        ProbeKey::from_secret(secret.as_bytes()).token(&pod, check, definition.as_object().unwrap())
    }

    #[test]
    fn a_token_depends_on_all_that_it_is_about_and_on_nothing_else() {
        let one = token("key", "shop", "web", "app/preStop", "/drain");
        assert!(is_token(&one), "{one}");
        assert_eq!(one, token("key", "shop", "web", "app/preStop", "/drain"));
        for other in [
            token("another", "shop", "web", "app/preStop", "/drain"),
            token("key", "shop2", "web", "app/preStop", "/drain"),
            token("key", "shop", "web2", "app/preStop", "/drain"),
            token("key", "shop", "web", "app/postStart", "/drain"),
            token("key", "shop", "web", "app/preStop", "/drain2"),
            token("key", "sho", "pweb", "app/preStop", "/drain"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_key_prints_nothing() {
        assert_eq!(format!("{:?}", ProbeKey::from_secret(b"key")), "[redacted]");
    }
}
