//! Fuzz target of tokens: a token of a peer is parsed and checked against keys. Its verdict is never `Good`.

use std::sync::LazyLock;

use smidge::auth::{
    claims::{Verdict, judge},
    keys::{KeySet, Known},
    token::Token,
};

/// Keys as the API server publishes them. Their private halves are not available.
const KEYS: &str = include_str!("../keys.json");

static KNOWN: LazyLock<Known> = LazyLock::new(|| Known {
    issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
    keys: KeySet::parse(KEYS).expect("a key set"),
});

/// Runs one input; bytes that are not UTF-8 are ignored.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(token) = Token::parse(text) else { return };
    for known in [None, Some(&*KNOWN)] {
        let verdict = judge(&token, known, "smidge/cluster.local/local", 1_700_000_000);
        assert!(!matches!(verdict, Verdict::Good(_)), "nobody has signed {text}");
    }
    // A key set comes from the API server, but over a network, so it is an input as well.
    drop(KeySet::parse(text));
}
