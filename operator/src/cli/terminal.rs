//! Writes words that files and users wrote where a terminal shows them.
//!
//! Such words must not steer the terminal nor turn its text round; colour is for a person who has not refused it. Knows
//! nothing of what it writes.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _},
};

/// A text whose control characters are shown rather than obeyed.
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

/// Characters that only say in which direction others are shown.
fn turns_round(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Colour only for a person who has not refused it (no-color.org).
pub fn is_colourful() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The colours in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Bad.
    Red,
    /// Good.
    Green,
    /// Worth a look.
    Yellow,
}

/// `word` in a colour, if there is to be any.
pub fn coloured(word: &str, colour: Colour, is_colourful: bool) -> String {
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
    };
    if is_colourful { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
}
