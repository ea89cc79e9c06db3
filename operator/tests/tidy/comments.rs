//! Comments are plain technical English: a doc comment opens with a verb or a noun, and programs do not speak or stand.

use super::{hold, workspace};

/// Words that open a question. A doc comment that opens with one hides what the item is.
const QUESTIONS: [&str; 10] =
    ["Who", "Whose", "Whom", "What", "Which", "Where", "When", "Why", "How", "Whether"];

/// (word that a comment may not have, words to use).
const FORBIDDEN: [(&str, &str); 8] = [
    ("hears", "receives, is notified"),
    ("heard", "received, was notified"),
    ("stands", "is, exists"),
    ("stood", "was"),
    ("told", "notified, reported, sent"),
    ("says", "writes, reports, states"),
    ("strangers", "unauthenticated peers, unknown names"),
    ("neighbours", "other replicas, referenced objects"),
];

/// Lines of comments: path, number, text after the slashes, and whether the line opens a doc comment.
fn comments(files: &[(String, String)]) -> impl Iterator<Item = (&str, usize, &str, bool)> {
    files.iter().filter(|(path, _)| !path.starts_with("operator/tests/tidy/")).flat_map(|(path, text)| {
        let mut was_doc = false;
        text.lines().enumerate().filter_map(move |(number, line)| {
            let line = line.trim_start();
            let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            let opens = doc.is_some_and(|doc| !doc.trim().is_empty()) && !was_doc;
            was_doc = doc.is_some();
            let comment = doc.or_else(|| line.strip_prefix("//"))?;
            Some((path.as_str(), number + 1, comment, opens))
        })
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).filter(|word| !word.is_empty())
}

#[test]
fn doc_comments_do_not_open_with_a_question() {
    let files = workspace();
    let broken: Vec<String> = comments(&files)
        .filter(|(_, _, text, opens)| {
            *opens && words(text).next().is_some_and(|word| QUESTIONS.contains(&word))
        })
        .map(|(path, number, text, _)| format!("{path}:{number}:{text}"))
        .collect();
    hold("open with the verb of what it does or the noun that it is", &broken);
}

#[test]
fn comments_use_the_verbs_of_the_trade() {
    let files = workspace();
    let mut broken = Vec::new();
    for (path, number, text, _) in comments(&files) {
        // Code in a comment is quoted.
        let prose: String = text.split('`').step_by(2).collect();
        let found =
            FORBIDDEN.iter().filter(|(word, _)| words(&prose).any(|it| it.eq_ignore_ascii_case(word)));
        broken.extend(found.map(|(word, instead)| format!("{path}:{number}: {word:?}: write {instead}")));
    }
    hold("words of our own", &broken);
}
