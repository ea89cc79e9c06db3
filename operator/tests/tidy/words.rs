//! Identifiers are the words of the trade: a replaced name does not return.
//!
//! CONTRIBUTING.md has the glossary, for people; these lists are what a machine can check of it. Comments do not count,
//! and of texts only names of metrics.

use super::{
    hold,
    kinds::{PRODUCT, apart},
    product,
    texts::TOOLS,
    workspace,
};

/// (word that may not be an identifier, word to use).
const FORBIDDEN: &[(&str, &str)] = &[
    ("AGAIN", "RETRY_DELAY"),
    ("Awaited", "LazyView"),
    ("Board", "SnapshotHub"),
    ("bombs", "oversized"),
    ("burden", "identity_load"),
    ("Claimed", "Held::Initial"),
    ("complain", "record_nack"),
    ("crowds", "proxy_counts"),
    ("deaf_until", "paused_until"),
    ("Doors", "AccessIndex"),
    ("Entrance", "ConnectLimiter"),
    ("everybodys", "shared_view"),
    ("Fate", "ViewChange"),
    ("Follower", "AckWatcher"),
    ("forget_idle", "collect"),
    ("givers", "contributors"),
    ("GLANCE", "MAX_SLEEP"),
    ("heirs", "targets"),
    ("hushed", "throttled"),
    ("is_mere_answer", "is_ack_or_nack"),
    ("keep_fresh", "run"),
    ("Lag", "Pending"),
    ("Ledger", "Results"),
    ("ledger", "results"),
    ("let_in", "allowed_sources"),
    ("Losses", "TargetsOverBudget"),
    ("Made", "Computed"),
    ("Manner", "Behaviour"),
    ("manner", "behaviour"),
    ("Meaning", "Change"),
    ("misfits", "misbehaving"),
    ("neighbours", "referenced_objects or replicas"),
    ("News", "ViewImpact or Updates"),
    ("overclaims", "initial_versions_exceeded"),
    ("PATIENCE", "a name that ends in _TIMEOUT"),
    ("refuser", "nacking_client"),
    ("salvage", "list leniently"),
    ("Seats", "Slots"),
    ("seats", "slots"),
    ("spoilt", "mutated"),
    ("Stated", "Attributed"),
    ("Statement", "SourceRef"),
    ("STRANGERS", "MAX_UNKNOWN_NAMES"),
    ("strangers", "unknown_names"),
    ("Ticket", "ConnectPermit"),
    ("Town", "Scenario"),
    ("town", "scenario"),
    ("Turns", "ComputeLimiter"),
    ("unissued", "certificate_failures"),
    ("Unsure", "Held::Unknown"),
    ("upheaval", "disruption"),
    ("World", "Harness or Model"),
    ("world", "harness or model"),
];

/// (word that may not be a part of an identifier or of a metric's name in programs, words to use).
const PARTS: &[(&str, &str)] = &[
    ("believed", "accepted, trusted"),
    ("everybody", "every_proxy, every_identity, all"),
    ("heard", "received, reported"),
    ("nobody", "none, no_endpoint, unauthenticated"),
    ("said", "written, content, message"),
    ("sayer", "referrer, author, origin"),
    ("says", "has, declares, states"),
    ("somebody", "a user, a caller, another replica"),
    ("stands", "is, resolves_to"),
    ("tell", "report, notify, publish"),
    ("told", "sent, reported, notified"),
    ("woken", "notified, updated"),
];

#[test]
fn identifiers_are_words_of_the_trade() {
    let mut broken = Vec::new();
    for (path, text) in workspace().iter().filter(|(path, _)| !path.starts_with("operator/tests/tidy/")) {
        for (number, line) in text.lines().enumerate() {
            let code = without_texts(line.split("//").next().unwrap());
            let words: Vec<&str> =
                code.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).collect();
            let found = FORBIDDEN.iter().filter(|(word, _)| words.contains(word));
            broken.extend(found.map(|(word, instead)| {
                format!("{path}:{}: `{word}`, of which the trade says {instead}", number + 1)
            }));
        }
    }
    hold("words of our own", &broken);
}

/// Returns a line without the text between its quotation marks.
fn without_texts(line: &str) -> String {
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

#[test]
fn parts_of_identifiers_and_metrics_are_words_of_the_trade() {
    let mut broken = Vec::new();
    for (path, text) in workspace() {
        if !PRODUCT.iter().chain(&TOOLS).any(|folder| path.starts_with(folder)) {
            continue;
        }
        let (code, texts) = apart(product(&text));
        let names =
            identifiers(&code).chain(texts.iter().filter(|it| is_name(it)).flat_map(|it| identifiers(it)));
        for name in names {
            let found =
                PARTS.iter().filter(|(word, _)| parts(name).any(|part| part.eq_ignore_ascii_case(word)));
            broken
                .extend(found.map(|(word, instead)| format!("{path}: `{name}` has {word}: write {instead}")));
        }
    }
    hold("words of our own in names", &broken);
}

/// Returns true if a text is the name of a metric, or begins with one: that of a registry with a prefix begins with it.
fn is_name(text: &str) -> bool {
    let is_snake_case = text.contains('_') && text.bytes().all(|it| it == b'_' || it.is_ascii_lowercase());
    is_snake_case || text.starts_with("smidge_")
}

fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).filter(|name| !name.is_empty())
}

/// Divides an identifier at `_` and before each capital letter that follows a small one or precedes one.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    let is_upper = |at: usize| name.as_bytes().get(at).is_some_and(u8::is_ascii_uppercase);
    let is_lower =
        |at: usize| name.as_bytes().get(at).is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    let is_start = move |at: usize| is_upper(at) && at > 0 && (is_lower(at - 1) || is_lower(at + 1));
    let mut starts: Vec<usize> = (0..name.len()).filter(|at| *at == 0 || is_start(*at)).collect();
    starts.push(name.len());
    let words: Vec<&str> = starts.windows(2).map(|pair| &name[pair[0]..pair[1]]).collect();
    words.into_iter().flat_map(|word| word.split('_')).filter(|part| !part.is_empty())
}

#[test]
fn names_are_divided_into_words() {
    let all = |name| parts(name).collect::<Vec<_>>();
    assert_eq!(all("is_told"), ["is", "told"]);
    assert_eq!(all("RETRY_DELAY"), ["RETRY", "DELAY"]);
    assert_eq!(all("HTTPRouteSaid2"), ["HTTP", "Route", "Said2"]);
    assert_eq!(all("smidge_xds_streams_woken_total"), ["smidge", "xds", "streams", "woken", "total"]);
}
