//! Turns a verdict into text for the user who applies an object: the message of a refusal, and warnings as kubectl
//! prints them.
//!
//! Both are bounded: an object may have a thousand errors.

use smidge_crds::conversion::field_at;

use super::{Review, Verdict};
use crate::finding::{Finding, Reason};

/// Maximum number of errors that a refusal lists.
const ERRORS: usize = 20;
/// Maximum length of the text about one error, in characters. Much of it may be the user's own value.
const ERROR_CHARACTERS: usize = 600;
/// Maximum number of warnings.
const WARNINGS: usize = 10;
/// Maximum length of a warning, in characters: the API server cuts longer ones once there are many.
const WARNING_CHARACTERS: usize = 256;

/// Returns the message of a refusal.
pub fn refusal(question: &Review, verdict: &Verdict) -> String {
    let object = question.object();
    let errors = lines(question, &verdict.refused, ERRORS, ERROR_CHARACTERS);
    match errors.as_slice() {
        [error] => format!("{object}: {error}"),
        errors => format!("{object} has {} errors:\n- {}", verdict.refused.len(), errors.join("\n- ")),
    }
}

/// Returns the warnings for the user who stores the object.
pub fn warnings(question: &Review, verdict: &Verdict) -> Vec<String> {
    let object = question.object();
    lines(question, &verdict.warnings, WARNINGS, WARNING_CHARACTERS)
        .into_iter()
        .map(|line| cut(&format!("{object}: {line}"), WARNING_CHARACTERS))
        .collect()
}

fn lines(question: &Review, findings: &[Finding], most: usize, characters: usize) -> Vec<String> {
    let line = |finding| cut(&line(question, finding), characters);
    let mut lines: Vec<String> = findings.iter().take(most).map(line).collect();
    if findings.len() > most {
        lines.push(format!("and {} more", findings.len() - most));
    }
    lines
}

fn line(question: &Review, finding: &Finding) -> String {
    let Finding { object: _, severity: _, reason, field, message, hint } = finding;
    let field = field.as_deref().map_or_else(String::new, |field| {
        // A finding about the shape of a field names the field as written.
        let is_as_written = *reason == Reason::FieldFromOtherVersion;
        let version = if is_as_written { "" } else { question.version() };
        field_at(&question.object().kind, version, field) + ": "
    });
    let hint = hint.as_deref().map_or_else(String::new, |hint| format!("; hint: {hint}"));
    format!("{field}{message} [{reason}]{hint}")
}

/// Cuts a text and replaces control characters: the text is sent in one line of HTTP, or printed on a terminal.
fn cut(text: &str, characters: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(characters).map(plain).collect();
    if text.chars().nth(characters).is_some() {
        short = short.chars().take(characters.saturating_sub(3)).chain("...".chars()).collect();
    }
    short
}
