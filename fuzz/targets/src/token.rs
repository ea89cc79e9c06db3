//! A token that a peer shows: taken apart, checked against keys, judged. It may be anything but good.

use std::sync::LazyLock;

use smidge::auth::{
    claims::{Verdict, judge},
    keys::{KeySet, Known},
    token::Token,
};

/// Keys as the API server publishes them. Nobody has the private halves.
const KEYS: &str = include_str!("../keys.json");

static KNOWN: LazyLock<Known> = LazyLock::new(|| Known {
    issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
    keys: KeySet::parse(KEYS).expect("a key set"),
});

/// Tries one input; what is no text is none.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(token) = Token::parse(text) else { return };
    for known in [None, Some(&*KNOWN)] {
        let verdict = judge(&token, known, "smidge/cluster.local/local", 1_700_000_000);
        assert!(!matches!(verdict, Verdict::Good(_)), "nobody has signed {text}");
    }
    // A key set comes from the API server, but over a network.
    drop(KeySet::parse(text));
}
