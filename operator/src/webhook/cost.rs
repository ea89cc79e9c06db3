//! Says how much memory a text of JSON takes at the most once it is parsed in full.
//!
//! Used by `webhook` for reviews whose objects must be parsed. Looks at brackets, commas and lengths only, so that the answer
//! costs nothing; whether the text is JSON is for the parser to say.

/// What a parsed map takes for its first fields: a node with room for eleven.
const MAP: usize = 650;
/// What a list takes for its first elements.
const LIST: usize = 130;
/// What one more element or field takes, growth included.
const ELEMENT: usize = 100;

/// Bytes that the parsed text takes.
pub(super) fn parsed(text: &[u8]) -> usize {
    let (mut is_text, mut is_escaped, mut cost) = (false, false, 0_usize);
    for byte in text {
        if is_text {
            is_text = *byte != b'"' || is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            cost += 1;
            continue;
        }
        cost += match byte {
            b'{' => MAP,
            b'[' => LIST,
            b',' => ELEMENT,
            b'"' => {
                is_text = true;
                8
            }
            _ => 0,
        };
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_texts_cost_nothing() {
        assert_eq!(parsed(br#"{"a\"{[,":[1,2]}"#), MAP + LIST + ELEMENT + 8 + 7);
        assert_eq!(parsed(br#""\\",["#), 8 + 3 + ELEMENT + LIST);
    }
}
