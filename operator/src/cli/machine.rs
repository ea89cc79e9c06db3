//! `smidge machine`: turns the name of a machine into its certificate, and into the bootstrap of its proxy.
//!
//! Reads the folder in which a control plane without Kubernetes keeps its authorities. Starts no proxy, and knows
//! nothing of the machine itself.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;

use super::terminal::Shown;

pub mod bootstrap;
pub mod certificate;

/// Arguments of `smidge machine`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands about machines.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Issue or renew the certificate by which a machine's proxy authenticates to the control plane.
    Certificate(certificate::Args),
    /// Print the Envoy bootstrap of a machine's proxy.
    Bootstrap(bootstrap::Args),
}

/// Runs `smidge machine`. Exit status: 0 success, 2 invalid arguments, or files that could not be read or written.
#[allow(clippy::needless_pass_by_value)] // All commands take their arguments alike.
pub fn run(args: Args) -> ExitCode {
    let printed = match &args.command {
        Command::Certificate(args) => certificate::run(args),
        Command::Bootstrap(args) => bootstrap::run(args),
    };
    match printed.and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", Shown(&format!("{error:#}")));
            ExitCode::from(2)
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A closed pipe (`| head`) is not an error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("failed to write"),
        _ => Ok(()),
    }
}

/// Runs the future of a command, which has no runtime.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
