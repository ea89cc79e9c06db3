//! Format of the output of commands: text for people, JSON for programs.
//!
//! Shared by the commands with a `--output`. Each prints its own text. Decides nothing about it.

use std::io::{self, StdoutLock, Write as _};

use serde::Serialize;

/// Format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Text for people.
    Text,
    /// JSON.
    Json,
}

impl Output {
    /// Writes `value` to standard output, as JSON or as `text` prints it. A closed pipe (`| head`) is not an error.
    pub fn write<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let written = match self {
            Self::Text => text(&mut stdout),
            Self::Json => serde_json::to_writer_pretty(&mut stdout, value)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(stdout)),
        };
        written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
    }
}
