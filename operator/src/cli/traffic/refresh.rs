//! Runs a command that shows figures: once, or again and again (`--watch`).
//!
//! On a terminal a text is drawn in place (`frame`); into a pipe or a file, each refresh is a block of its own. An error
//! after the first output does not end the command: the operator may be restarting. A closed pipe does, without an error.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use kube::Client;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Query, Report,
    cluster::{ReadError, Reader, connect},
    frame::{Drawn, Size},
    shown,
    target::Target,
};
use crate::cli::{output::Output, terminal::Shown};

/// Size of a terminal that reports none.
const DEFAULT_SIZE: Size = Size { columns: 80, rows: 24 };

/// Errors of the command.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("failed to write")]
    Write(#[from] io::Error),
}

/// Runs a command: `read` requests the figures.
#[expect(clippy::needless_pass_by_value, reason = "a closure is written where it is passed")]
pub fn run<R: Report>(
    query: &Query,
    read: impl AsyncFn(&mut Reader, &Target) -> Result<R, ReadError>,
) -> ExitCode {
    let output = async |reader: &mut Reader, target: &Target| Ok(shown(&read(reader, target).await?, query));
    let is_piped = |error: &RunError| matches!(error, RunError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe);
    match run_or_fail(query, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_piped(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", described(error));
            ExitCode::from(2)
        }
    }
}

/// Returns the text of an error with its causes, on one line.
fn described(error: impl Into<anyhow::Error>) -> String {
    Shown(&format!("{:#}", error.into())).to_string()
}

fn run_or_fail(
    query: &Query,
    output: impl AsyncFn(&mut Reader, &Target) -> Result<String, ReadError>,
) -> Result<(), RunError> {
    // Arguments are judged before a cluster is asked; without one, any namespace will do.
    Target::parse(query, "default").map_err(ReadError::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ReadError::Process)?.block_on(async {
        let client = connect().await?;
        let target = Target::parse(query, client.default_namespace()).map_err(ReadError::from)?;
        let first = output(&mut Reader::new(&client), &target).await?;
        if query.watch { watch(query, (&client, &target), first, output).await } else { write(&first) }
    })
}

async fn watch(
    query: &Query,
    (client, target): (&Client, &Target),
    first: String,
    output: impl AsyncFn(&mut Reader, &Target) -> Result<String, ReadError>,
) -> Result<(), RunError> {
    let is_in_place = query.output == Output::Text && io::stdout().is_terminal();
    let end = if query.output == Output::Text { "\n" } else { "" };
    let mut drawn = Drawn::default();
    let mut last = first;
    let mut show =
        |text: &str| write(&if is_in_place { drawn.replace(text, size()) } else { format!("{text}{end}") });
    show(&last)?;
    let mut ticks = interval(query.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is due at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        match output(&mut Reader::new(client), target).await {
            Ok(text) => {
                last = text;
                show(&last)?;
            }
            // Above the figures, as what does not fit on the screen is left out at its end.
            Err(error) if is_in_place => show(&format!("error: {}\n{last}", described(error)))?,
            Err(error) => eprintln!("error: {}", described(error)),
        }
    }
}

fn write(text: &str) -> Result<(), RunError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

fn size() -> Size {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let size = size.map(|size| Size { columns: size.ws_col.into(), rows: size.ws_row.into() });
    size.filter(|size| size.columns > 0 && size.rows > 0).unwrap_or(DEFAULT_SIZE)
}
