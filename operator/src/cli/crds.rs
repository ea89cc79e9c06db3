//! `smidge crds`.

use std::process::ExitCode;

/// Arguments of `smidge crds`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `smidge crds`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::from(2)
}
