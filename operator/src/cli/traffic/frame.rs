//! Turns successive texts into what redraws them in place on a terminal.
//!
//! Pure. Used by `refresh`, which knows the terminal and writes. Lines that do not fit on the screen are left out, as a
//! terminal cannot draw again what it has scrolled away.

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters of a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

/// Lines that are on the screen.
#[derive(Debug, Default)]
pub struct Drawn {
    /// Width of each line.
    widths: Vec<usize>,
}

impl Drawn {
    /// Returns the text that replaces what is drawn by `text`. The cursor is below the last line before and after.
    pub fn replace(&mut self, text: &str, size: Size) -> String {
        let Size { columns, rows } = Size { columns: size.columns.max(1), rows: size.rows.max(3) };
        let rows_of = |width: usize| width.div_ceil(columns).max(1);
        // The last row is the cursor's.
        let space = rows - 1;
        let up = self.widths.iter().map(|width| rows_of(*width)).sum::<usize>().min(space);
        let mut frame = if up > 0 { format!("\r\u{1b}[{up}A\u{1b}[J") } else { "\r\u{1b}[J".to_owned() };
        let lines: Vec<(&str, usize)> = text.lines().map(|line| (line, width(line))).collect();
        let total: usize = lines.iter().map(|(_, width)| rows_of(*width)).sum();
        let space = if total > space { space - 1 } else { space };
        self.widths.clear();
        let mut used = 0;
        for (line, width) in &lines {
            used += rows_of(*width);
            if used > space {
                break;
            }
            frame.push_str(line);
            frame.push('\n');
            self.widths.push(*width);
        }
        let left_out = lines.len() - self.widths.len();
        if left_out > 0 {
            let note: String = format!("… {left_out} more lines").chars().take(columns).collect();
            self.widths.push(note.chars().count());
            frame.push_str(&note);
            frame.push('\n');
        }
        frame
    }
}

/// Returns the number of characters of a line without its colours.
fn width(line: &str) -> usize {
    let mut width = 0;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            letters.by_ref().find(|letter| *letter == 'm');
        } else {
            width += 1;
        }
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { columns: 10, rows: 6 };

    #[test]
    fn a_text_is_replaced_by_the_next() {
        let mut drawn = Drawn::default();
        assert_eq!(drawn.replace("one\ntwo\n", SIZE), "\r\u{1b}[Jone\ntwo\n");
        // Ten characters are one row, eleven two; colours are none.
        let wide = "\u{1b}[31m0123456789\u{1b}[0m\n0123456789a\n";
        assert_eq!(drawn.replace(wide, SIZE), format!("\r\u{1b}[2A\u{1b}[J{wide}"));
        assert_eq!(drawn.replace("", SIZE), "\r\u{1b}[3A\u{1b}[J");
        assert_eq!(drawn.replace("x\n", SIZE), "\r\u{1b}[Jx\n");
    }

    #[test]
    fn a_narrower_terminal_has_more_rows_of_the_same_text() {
        let mut drawn = Drawn::default();
        drawn.replace("0123456789\n", SIZE);
        assert!(drawn.replace("x\n", Size { columns: 5, ..SIZE }).starts_with("\r\u{1b}[2A"));
    }

    #[test]
    fn no_more_is_drawn_than_fits() {
        let mut drawn = Drawn::default();
        let long = (0..100_000).map(|number| number.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(drawn.replace("1\n2\n3\n4\n5\n", SIZE), "\r\u{1b}[J1\n2\n3\n4\n5\n");
        assert_eq!(drawn.replace(&long, SIZE), "\r\u{1b}[5A\u{1b}[J0\n1\n2\n3\n… 99996 mo\n");
        assert!(drawn.replace("x\n", SIZE).starts_with("\r\u{1b}[5A"));
        let none = Size { columns: 0, rows: 0 };
        assert_eq!(drawn.replace(&long, none).lines().count(), 2);
    }
}
