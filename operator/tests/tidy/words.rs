//! Identifiers are the words of the trade: a replaced name does not return.
//!
//! CONTRIBUTING.md has the glossary, for people; this list is what a machine can check of it. Comments and texts do not
//! count.

use super::{hold, workspace};

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
