//! Turns the names in the certificate of a peer into the peer: its workload and its ServiceAccount.
//!
//! Pure, and total on any text: the certificates are the mesh's own, but what a proxy reports about them is not
//! verified. Used by `flow`.

use std::borrow::Cow;

use crate::traffic::Peer;

/// Maximum length of a name, in bytes: that of a name of Kubernetes.
pub(crate) const MAX_NAME: usize = 253;

/// Returns the peer whose certificate has this URI SAN and this subject, in the form of RFC 2253. A leaf of the mesh has
/// `OU=<kind of workload>` and `CN=<name of workload>`, in any order, and is in the namespace of the SAN.
pub fn peer(san: &str, subject: &str) -> Peer {
    let mut peer = Peer::default();
    match account(san) {
        Some((namespace, account)) => {
            (peer.namespace, peer.service_account) = (clean(namespace, MAX_NAME), clean(account, MAX_NAME));
        }
        // A certificate of another kind; the text is all that identifies the peer.
        None => peer.service_account = clean(san, MAX_NAME),
    }
    for part in split(subject) {
        let Some((key, value)) = part.split_once('=') else { continue };
        let name = match key.trim() {
            "OU" => &mut peer.kind,
            "CN" => &mut peer.name,
            _ => continue,
        };
        if name.is_empty() {
            *name = clean(&unescape(value), MAX_NAME);
        }
    }
    peer
}

/// Returns namespace and ServiceAccount of a SPIFFE ID of a mesh.
fn account(san: &str) -> Option<(&str, &str)> {
    let mut parts = san.strip_prefix("spiffe://")?.split('/');
    let (_, ns, namespace, sa, account) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (ns == "ns" && sa == "sa" && parts.next().is_none()).then_some((namespace, account))
}

/// Splits a subject at separators that are not escaped.
fn split(subject: &str) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    subject.split(move |letter| {
        let separates = !is_escaped && matches!(letter, ',' | '+' | ';');
        is_escaped = !is_escaped && letter == '\\';
        separates
    })
}

/// Resolves escapes: `\` before a special character, or before two digits of a byte.
fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let mut digits = rest.clone();
        match (digits.next().and_then(hex), digits.next().and_then(hex)) {
            (Some(high), Some(low)) => {
                bytes.push(high << 4 | low);
                rest = digits;
            }
            _ => bytes.extend(rest.next()),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Returns a text of at most `max` bytes on one line, without characters that change how the rest is shown.
pub(crate) fn clean(text: &str, max: usize) -> String {
    let text = text.trim();
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    shown(text.get(..end).unwrap_or_default())
}

/// Returns a text on one line, without characters that change how the rest is shown.
pub(crate) fn shown(text: &str) -> String {
    let shown = |letter: char| {
        let is_hidden = letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if is_hidden { '?' } else { letter }
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAN: &str = "spiffe://cluster.local/ns/web/sa/front";

    fn workload(subject: &str) -> (String, String) {
        let peer = peer(SAN, subject);
        assert_eq!((peer.namespace.as_str(), peer.service_account.as_str()), ("web", "front"));
        (peer.kind, peer.name)
    }

    #[test]
    fn workload_and_account_are_read_in_any_order() {
        let expected = ("Deployment".to_owned(), "front".to_owned());
        for subject in [
            "CN=front,OU=Deployment",
            "OU=Deployment,CN=front",
            "O=x,CN=front , OU=Deployment,CN=second",
            "OU=Deployment+CN=front",
            "CN=\\66ront,OU=Deployment",
        ] {
            assert_eq!(workload(subject), expected, "{subject}");
        }
        assert_eq!(workload("CN=front"), (String::new(), "front".to_owned()));
        assert_eq!(workload(""), Default::default());
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(workload(r"CN=a\,OU=b,OU=K\+c"), ("K+c".to_owned(), "a,OU=b".to_owned()));
        assert_eq!(workload(r"CN=a\\,OU=b"), ("b".to_owned(), "a\\".to_owned()));
        assert_eq!(workload(r"CN=\C3\A4"), (String::new(), "\u{e4}".to_owned()));
        assert_eq!(workload(r"CN=x\"), (String::new(), "x".to_owned()));
        assert_eq!(workload(r"CN=\C3"), (String::new(), "\u{fffd}".to_owned()));
    }

    #[test]
    fn any_text_is_bounded() {
        assert_eq!(peer("", ""), Peer::default());
        assert_eq!(peer("spiffe://other/x", "").service_account, "spiffe://other/x");
        assert_eq!(peer("spiffe://d/ns/a/sa/b/c", "=,=;CN",).service_account, "spiffe://d/ns/a/sa/b/c");
        let long = peer(&"\u{e4}".repeat(1_000), &format!("CN={},OU=a\u{202e}b\nc", "x".repeat(1_000)));
        assert!(long.service_account.len() <= MAX_NAME && long.name.len() <= MAX_NAME);
        assert_eq!(long.kind, "a?b?c");
    }
}
