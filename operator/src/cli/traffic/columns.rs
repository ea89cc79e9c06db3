//! Lays a table out in columns, for people.
//!
//! Pure. Used by `stat`, `edges` and `top`. Text from outside is escaped before its width is measured, so that it cannot control
//! the terminal.

use std::fmt::Write as _;

use crate::cli::terminal::{Colour, Shown, coloured};

/// Blanks between columns.
const GAP: usize = 3;
/// Maximum width of a cell, in characters: two names of Kubernetes. What is longer is cut.
const MAX_WIDTH: usize = 512;

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Its text.
    pub text: String,
    colour: Option<Colour>,
    is_number: bool,
}

impl Cell {
    /// Returns a cell that is aligned left.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), colour: None, is_number: false }
    }

    /// Returns a cell that is aligned right, as its heading is.
    pub fn number(text: impl Into<String>) -> Self {
        Self { is_number: true, ..Self::text(text) }
    }

    /// Sets the colour, on a condition.
    #[must_use]
    pub fn coloured_if(self, condition: bool, colour: Colour) -> Self {
        Self { colour: condition.then_some(colour).or(self.colour), ..self }
    }
}

/// Returns the lines of a table, each with an end. Rows have a cell for each heading.
pub fn lines(headings: &[&str], rows: &[Vec<Cell>], is_colourful: bool) -> String {
    let shown: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell_text).collect()).collect();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = shown.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count());
            cells.max().unwrap_or_default().max(heading.chars().count())
        })
        .collect();
    let first = rows.first().map(Vec::as_slice).unwrap_or_default();
    let is_number = |column: usize| first.get(column).is_some_and(|cell| cell.is_number);
    let mut text = String::new();
    let headings = headings.iter().enumerate().map(|(column, heading)| (*heading, is_number(column), None));
    line(&mut text, headings, &widths, is_colourful);
    for (row, shown) in rows.iter().zip(&shown) {
        let cells = row.iter().zip(shown).map(|(cell, text)| (text.as_str(), cell.is_number, cell.colour));
        line(&mut text, cells, &widths, is_colourful);
    }
    text
}

fn line<'a>(
    text: &mut String,
    cells: impl Iterator<Item = (&'a str, bool, Option<Colour>)>,
    widths: &[usize],
    is_colourful: bool,
) {
    // Blanks before the next cell, so that no line ends in them.
    let mut blanks = 0;
    for ((cell, is_number, colour), width) in cells.zip(widths) {
        let rest = width.saturating_sub(cell.chars().count());
        let before = blanks + if is_number { rest } else { 0 };
        let shown = colour.map_or_else(|| cell.to_owned(), |colour| coloured(cell, colour, is_colourful));
        let _ = write!(text, "{:before$}{shown}", "");
        blanks = GAP + if is_number { 0 } else { rest };
    }
    text.push('\n');
}

fn cell_text(cell: &Cell) -> String {
    let shown = Shown(&cell.text).to_string();
    match shown.char_indices().nth(MAX_WIDTH) {
        Some((end, _)) => format!("{}…", shown.get(..end).unwrap_or_default()),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec![Cell::text("shop"), Cell::number("1.50"), Cell::text("x")],
            vec![
                Cell::text("a-long-name"),
                Cell::number("1234.00").coloured_if(true, Colour::Red),
                Cell::text("y"),
            ],
        ];
        let expected = "NAME              RPS   SIDE\nshop             1.50   x\na-long-name   1234.00   y\n";
        assert_eq!(lines(&["NAME", "RPS", "SIDE"], &rows, false), expected);
        let colourful = lines(&["NAME", "RPS", "SIDE"], &rows, true);
        assert!(colourful.contains("   \u{1b}[31m1234.00\u{1b}[0m   y\n"), "{colourful:?}");
        assert_eq!(lines(&["NAME", "RPS"], &[], false), "NAME   RPS\n");
    }

    #[test]
    fn text_does_not_control_the_terminal_and_is_cut() {
        let rows = [vec![Cell::text("a\u{1b}[2J\n\u{202e}b")], vec![Cell::text("x".repeat(100_000))]];
        let text = lines(&["NAME"], &rows, true);
        assert_eq!(text.lines().count(), 3, "{text:?}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");
        assert!(text.len() < 3 * (MAX_WIDTH + 10), "{}", text.len());
    }
}
