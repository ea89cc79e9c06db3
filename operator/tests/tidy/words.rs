//! Identifiers are the words of the trade: a replaced name does not return.
//!
//! CONTRIBUTING.md has the glossary, for people; this list is what a machine can check of it. Comments and texts do not
//! count.

use super::{hold, workspace};

/// (word that may not be an identifier, word to use).
const FORBIDDEN: &[(&str, &str)] = &[
    ("Awaited", "LazyView"),
    ("Board", "SnapshotHub"),
    ("Claimed", "Held::Initial"),
    ("Doors", "AccessIndex"),
    ("Entrance", "ConnectLimiter"),
    ("Fate", "ViewChange"),
    ("Follower", "AckWatcher"),
    ("Lag", "Pending"),
    ("Made", "Computed"),
    ("Meaning", "Change"),
    ("News", "ViewImpact or Updates"),
    ("Stated", "Attributed"),
    ("Statement", "SourceRef"),
    ("Ticket", "ConnectPermit"),
    ("Turns", "ComputeLimiter"),
    ("Unsure", "Held::Unknown"),
    ("complain", "record_nack"),
    ("deaf_until", "paused_until"),
    ("everybodys", "shared_view"),
    ("forget_idle", "collect"),
    ("givers", "contributors"),
    ("heirs", "targets"),
    ("hushed", "throttled"),
    ("is_mere_answer", "is_ack_or_nack"),
    ("let_in", "allowed_sources"),
    ("overclaims", "initial_versions_exceeded"),
    ("salvage", "list leniently"),
    ("unissued", "certificate_failures"),
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
