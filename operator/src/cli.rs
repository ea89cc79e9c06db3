//! The command line: arguments to settings, and one module a command.
//!
//! The only place that reads flags and environment. Called by `main`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod check;
pub mod crds;
pub mod explain;
pub mod inject;
pub mod redirect;
pub mod render;
pub mod run;
pub mod terminal;

/// Smidge: SMI in, Envoy out.
#[derive(Debug, Parser)]
#[command(name = "smidge", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Run(Box<run::Args>),
    /// Print the custom resource definitions.
    Crds(crds::Args),
    /// Check manifests and print findings.
    Check(check::Args),
    /// Print the Envoy configuration of one workload.
    Render(render::Args),
    /// Say whether one workload may call another, and why.
    Explain(explain::Args),
    /// Print manifests with the proxy injected.
    Inject(inject::Args),
    /// Redirect a pod's traffic to its proxy (runs inside the pod).
    Redirect(redirect::Args),
}

/// Runs what the command line says. Exit status: 0 fine, 1 errors found (`explain`: denied), 2 unreadable or senseless
/// input.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Crds(args) => crds::run(args),
        Command::Check(args) => check::run(args),
        Command::Render(args) => render::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Inject(args) => inject::run(args),
        Command::Redirect(args) => redirect::run(args),
    }
}
