//! Writes text from files and users to a terminal.
//!
//! Such text must not control the terminal nor reverse its direction; colour is for a person who has not refused it.
//! Does not know the meaning of the text.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _},
};

/// Text whose control characters are escaped.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || turns_round(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Returns true for characters that only set the direction in which others are displayed.
fn turns_round(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns true if standard output is a terminal and the user has not refused colour (no-color.org).
pub fn is_colourful() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Colours in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Errors and denials.
    Red,
    /// Allowed calls.
    Green,
    /// Warnings and partial verdicts.
    Yellow,
}

/// Returns `word`, coloured if `is_colourful`.
pub fn coloured(word: &str, colour: Colour, is_colourful: bool) -> String {
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
    };
    if is_colourful { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
}
