//! `smidge inject`.

use std::process::ExitCode;

/// Arguments of `smidge inject`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `smidge inject`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::from(2)
}
