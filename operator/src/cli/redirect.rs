//! `smidge redirect`.

use std::process::ExitCode;

/// Arguments of `smidge redirect`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `smidge redirect`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::from(2)
}
