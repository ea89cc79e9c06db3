//! The `smidge` binary.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    smidge::cli::run(smidge::cli::Cli::parse())
}
