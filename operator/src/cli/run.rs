//! `smidge run`.

use std::process::ExitCode;

/// Arguments of `smidge run`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `smidge run`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::from(2)
}
