//! Turns what is known of a check into the token in its path, so that only who may read the pod can have it made.
//!
//! A MAC under a key of the mesh: every replica comes to the same one, also after a restart, and nobody who knows what a
//! probe looks like can work it out. Where the key comes from is the caller's business; `ca::version` has the mesh's.

use std::fmt::{self, Write};

use ring::{
    digest::{SHA256, digest},
    hmac,
};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// Bytes of a token: nobody guesses 128 bits over a network.
const LENGTH: usize = 16;

/// The key under which tokens are made. Prints nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct ProbeKey(Zeroizing<[u8; 32]>);

impl ProbeKey {
    /// The key made of these bytes, which are random or come of a key.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The key made of a text of any length that others do not know.
    pub fn from_secret(secret: &[u8]) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(digest(&SHA256, secret).as_ref());
        Self(bytes)
    }

    /// The token of a check as its owner wrote it. Parts are quoted, so that none can be mistaken for another.
    pub(super) fn token(&self, pod: &Owner, check: &str, definition: &Map<String, Value>) -> String {
        let Owner { namespace, account } = pod;
        let said = json!([namespace, account, check, definition]).to_string();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref()), said.as_bytes());
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

/// Whose pod it is, as far as that is known when it is injected: its name is not, and its labels may still change.
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

/// Whether a text has the form of a token.
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
