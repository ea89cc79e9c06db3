//! Turns untrusted text into text that is safe for one line of a log, an Event or a terminal.
//!
//! Used wherever text of a peer or of an object leaves the program. Pure; does not decide what is logged or reported.

/// Returns true if `c` can end a line, move a cursor, or turn or hide text.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Zero width, direction marks, line and paragraph separators, embeddings, overrides.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            // Joiners, isolates, deprecated format characters.
            | '\u{2060}'..='\u{206f}'
            // Byte order mark, interlinear annotations, tags.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Escapes every character of `text` that does more than show itself.
pub fn plain(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unfit(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Returns the first `longest` characters of `text`, escaped as by [`plain`]; ` …` marks that more follow.
pub fn brief(text: &str, longest: usize) -> String {
    let head: String = text.chars().take(longest).collect();
    let rest = if head.len() < text.len() { " …" } else { "" };
    plain(&head) + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_line_can_be_forged() {
        let forged = "x\n2026 INFO\r\u{1b}[2J\u{85}\u{2028}\u{202e}\u{200f}\u{61c}\u{2066}y";
        let shown = plain(forged);
        assert_eq!(shown, "x\\n2026 INFO\\r\\u{1b}[2J\\u{85}\\u{2028}\\u{202e}\\u{200f}\\u{61c}\\u{2066}y");
        assert_eq!(plain("Grüße an \"shop\" – 東京"), "Grüße an \"shop\" – 東京");
    }

    proptest! {
        #[test]
        fn what_is_shown_shows_itself_and_has_a_bound(text in any::<String>(), longest in 0_usize..300) {
            let shown = brief(&text, longest);
            prop_assert!(!shown.chars().any(is_unfit));
            prop_assert!(shown.chars().count() <= longest * 10 + 2);
            prop_assert_eq!(plain(&shown), shown.clone());
        }
    }
}
