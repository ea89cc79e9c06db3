//! Text of the difference between an exchange without and one with the mesh.

use std::iter;

use smidge_xds_testing::http1::Message;

use super::Seen;

/// Maximum number of lines of one message that are listed.
const LISTED: usize = 4;
/// Maximum length of a line that is shown.
const SHOWN: usize = 150;

/// Text for no difference.
pub const SAME: &str = "the same";

/// Describes the difference, without what differs in the `usual` exchange (without, with) as well.
pub fn difference(without: &Seen, with: &Seen, usual: Option<(&Seen, &Seen)>) -> String {
    let mut parts = Vec::new();
    let usual_of = |messages: fn(&Seen) -> &Vec<Message>| {
        usual.map(|(without, with)| lines(&messages(without)[0], &messages(with)[0])).unwrap_or_default()
    };
    let requests = messages("request", &without.requests, &with.requests, &usual_of(|seen| &seen.requests));
    let responses =
        messages("response", &without.responses, &with.responses, &usual_of(|seen| &seen.responses));
    parts.extend(requests);
    parts.extend(responses);
    if without.is_open != with.is_open {
        parts.push(format!("the connection {}", if with.is_open { "stays open" } else { "is closed" }));
    }
    if parts.is_empty() { SAME.to_owned() } else { parts.join("; ") }
}

fn messages(what: &str, without: &[Message], with: &[Message], usual: &[String]) -> Vec<String> {
    let mut parts = Vec::new();
    if with.is_empty() && !without.is_empty() {
        return vec![format!("no {what}")];
    }
    if without.len() != with.len() {
        let firsts: Vec<String> = with.iter().map(|message| code(&message.first)).collect();
        return vec![format!("{what}s: {}", firsts.join(", "))];
    }
    for (without, with) in iter::zip(without, with) {
        let mut lines: Vec<String> =
            lines(without, with).into_iter().filter(|line| !usual.contains(line)).collect();
        if without.first != with.first
            && what == "response"
            && !with.text().is_empty()
            && with.text() != without.text()
        {
            // The mesh answers: only what it states counts.
            parts.push(format!("{what}: {} {}", code(&with.first), code(with.text().trim())));
            continue;
        }
        if lines.len() > LISTED {
            let more = lines.len() - LISTED;
            lines.truncate(LISTED);
            lines.push(format!("{more} more"));
        }
        if !lines.is_empty() {
            parts.push(format!("{what}: {}", lines.join(", ")));
        }
        if without.body != with.body {
            parts.push(format!("{what}: another body"));
        }
    }
    parts
}

/// Returns the lines that one message has and the other lacks, and the order of headers if only that differs.
fn lines(without: &Message, with: &Message) -> Vec<String> {
    let (old, new) = (all(without), all(with));
    let lost = missing(&old, &new).into_iter().map(|line| format!("− {}", code(&line)));
    let added = missing(&new, &old).into_iter().map(|line| format!("+ {}", code(&line)));
    let mut lines: Vec<String> = lost.chain(added).collect();
    let kept = |from: &[String], of: &[String]| -> Vec<String> {
        from.iter().filter(|line| of.contains(line)).cloned().collect()
    };
    if kept(&old, &new) != kept(&new, &old) {
        lines.push("another order".to_owned());
    }
    lines
}

fn all(message: &Message) -> Vec<String> {
    let dated = |line: &String| {
        if line.to_ascii_lowercase().starts_with("date:") { line[..5].to_owned() } else { line.clone() }
    };
    let trailers = message.trailers.iter().map(|line| format!("trailer {line}"));
    iter::once(message.first.clone()).chain(message.headers.iter().map(dated)).chain(trailers).collect()
}

/// Returns the lines of `from` that `of` lacks, each as often as it does.
fn missing(from: &[String], of: &[String]) -> Vec<String> {
    let mut rest = of.to_vec();
    let is_missing = |line: &&String| match rest.iter().position(|it| it == *line) {
        Some(index) => {
            rest.remove(index);
            false
        }
        None => true,
    };
    from.iter().filter(is_missing_once(is_missing)).cloned().collect()
}

fn is_missing_once<'a>(mut test: impl FnMut(&&'a String) -> bool) -> impl FnMut(&&'a String) -> bool {
    move |line| test(line)
}

fn code(line: &str) -> String {
    let text: String = line.chars().take(SHOWN).collect();
    let more = if text.len() < line.len() { "…" } else { "" };
    format!("`{}{more}`", text.replace('|', "\\|"))
}
