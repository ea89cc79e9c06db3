//! `smidge render`.

use std::process::ExitCode;

/// Arguments of `smidge render`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `smidge render`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::from(2)
}
