//! Computes an upper bound of the memory that a JSON text takes once it is parsed in full.
//!
//! Used by `webhook` for reviews whose objects must be parsed. Reads brackets, commas and lengths only, so that the
//! bound costs almost nothing; does not check that the text is JSON, which the parser does.

/// Memory of a parsed map with its first fields, in bytes: a node with room for eleven.
const MAP: usize = 650;
/// Memory of a list with its first elements, in bytes.
const LIST: usize = 130;
/// Memory of one more element or field, in bytes, growth included.
const ELEMENT: usize = 100;

/// Returns the maximum memory of the parsed text, in bytes.
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
