//! Texts that users read are plain technical English: string literals of programs, documents and the chart.
//!
//! Code is quoted in them, so it does not count: in backticks, in blocks of a document, in braces of a format string.
//! Tests and examples may use whatever words they need.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    hold,
    kinds::{PRODUCT, apart},
    product, root, workspace,
};

/// Folders of programs that are not part of the product and print texts for its developers.
pub(super) const TOOLS: [&str; 3] = ["e2e/src/", "e2e/bench/src/", "e2e/shapes/src/"];

/// Documents in the root, and folders of documents.
const DOCUMENTS: [&str; 8] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "charts",
    "docs",
    "e2e/cluster/README.md",
    "examples/bookstore/README.md",
];

/// (word or words in sequence that a text may not have, words to use).
const FORBIDDEN: &[(&str, &str)] = &[
    ("anybody", "any pod, any caller"),
    ("believed", "in effect"),
    ("believes", "accepts"),
    ("everybody", "all pods, all callers"),
    ("heard", "received, reported"),
    ("hears", "receives"),
    ("nobody", "no pod, no caller, no identity"),
    ("said", "returned, sent, reported"),
    ("say", "specify, set, state"),
    ("says", "declares, returned, reports"),
    ("somebody", "a pod, a caller, a user"),
    ("stands", "is, exists, resolves to"),
    ("takes for", "accepts as, confuses with"),
    ("tells", "reports, notifies"),
    ("told", "notified, sent, reported"),
];

/// Returns the forbidden words of a text, with the words to use.
fn forbidden(text: &str) -> Vec<String> {
    let prose: String = text.split('`').step_by(2).collect();
    let words: Vec<String> = prose
        .split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let has = |phrase: &str| {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        words.windows(phrase.len()).any(|window| window == phrase.as_slice())
    };
    FORBIDDEN
        .iter()
        .filter(|(phrase, _)| has(phrase))
        .map(|(phrase, instead)| format!("{phrase:?}: write {instead}"))
        .collect()
}

/// Returns a format string without what it interpolates.
fn without_values(text: &str) -> String {
    text.split('{')
        .enumerate()
        .map(|(index, part)| if index == 0 { part } else { after_brace(part) })
        .collect()
}

fn after_brace(part: &str) -> &str {
    part.split_once('}').map_or(part, |(_, rest)| rest)
}

/// Finds documents and the files of the chart below a path.
fn find(path: &Path, found: &mut Vec<PathBuf>) {
    if let Ok(entries) = fs::read_dir(path) {
        entries.for_each(|entry| find(&entry.unwrap().path(), found));
    } else if path.extension().is_some_and(|it| ["md", "txt", "tpl", "yaml"].iter().any(|known| it == *known))
    {
        found.push(path.to_owned());
    }
}

#[test]
fn string_literals_use_the_words_of_the_trade() {
    let mut broken = Vec::new();
    for (path, text) in workspace() {
        if !PRODUCT.iter().chain(&TOOLS).any(|folder| path.starts_with(folder)) {
            continue;
        }
        for literal in apart(product(&text)).1 {
            let found = forbidden(&without_values(&literal.replace("\\n", " "))).into_iter();
            broken.extend(found.map(|word| format!("{path}: {literal:?}: {word}")));
        }
    }
    hold("words of our own in texts", &broken);
}

#[test]
fn documents_use_the_words_of_the_trade() {
    let mut paths = Vec::new();
    for name in DOCUMENTS {
        let path = root().join(name);
        assert!(path.exists(), "there is no {name}");
        find(&path, &mut paths);
    }
    let mut broken = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let mut is_code = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
            } else if !is_code {
                let found = forbidden(line).into_iter();
                broken.extend(found.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
            }
        }
    }
    hold("words of our own in documents", &broken);
}

#[test]
fn forbidden_words_are_found_in_prose_only() {
    assert_eq!(forbidden("Nobody is there").len(), 1);
    assert_eq!(forbidden("it takes for a server what `nobody` runs").len(), 1);
    assert!(forbidden(&without_values("failed: {said}, {told:?}")).is_empty());
}
