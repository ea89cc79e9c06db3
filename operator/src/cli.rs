//! The command line: turns arguments into settings, with one module for each command.
//!
//! The only place that reads flags and environment; `runtime::Settings` declares those of `run`. Called by `main`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod check;
pub mod cni;
mod config;
pub mod crds;
pub mod dashboards;
pub mod edges;
pub mod explain;
pub mod hosts;
pub mod inject;
pub mod machine;
pub mod manifests;
pub mod output;
pub mod redirect;
pub mod render;
pub mod run;
pub mod sandbox;
pub mod stat;
pub mod status;
pub mod terminal;
pub mod top;
pub mod traffic;

/// Smidge: SMI in, Envoy out.
#[derive(Debug, Parser)]
#[command(name = "smidge", version, about)]
pub struct Cli {
    /// Command to run.
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
    /// Print a dashboard for Grafana.
    Dashboards(dashboards::Args),
    /// Check manifests and print findings.
    Check(check::Args),
    /// Print the Envoy configuration of one workload.
    Render(render::Args),
    /// Show whether one workload may call another, and why.
    Explain(explain::Args),
    /// Show success rate, calls per second and latency of workloads, Services, namespaces or TrafficSplits.
    Stat(stat::Args),
    /// Show who calls whom.
    Edges(edges::Args),
    /// Show the calls of workloads by route, those with most calls first.
    Top(top::Args),
    /// Print the names and addresses of Services, for machines without the DNS of a cluster.
    Hosts(hosts::Args),
    /// Run manifests as a sandbox on this machine, and call as any workload.
    Try(Box<sandbox::Args>),
    /// Print manifests with the proxy injected.
    Inject(Box<inject::Args>),
    /// Show the status of the objects and proxies of a control plane without an API server.
    Status(status::Args),
    /// Issue the certificate of a machine, and print the bootstrap of its proxy.
    Machine(machine::Args),
    /// Redirect a pod's traffic to its proxy (runs inside the pod).
    Redirect(redirect::Args),
    /// Run a part of the CNI plugin, which redirects the traffic of pods in place of an init container.
    Cni(cni::Args),
    /// A part of a sandbox; `try` runs it.
    #[command(hide = true)]
    SandboxPart(sandbox::part::Args),
}

/// Reads the arguments of this process, and of `smidge run`, the configuration file that they name. Ends the process if
/// they are not valid.
pub fn parse() -> Cli {
    match config::expand(std::env::args_os().collect()) {
        Ok(arguments) => Cli::parse_from(arguments),
        Err(error) => {
            eprintln!("error: {:#}", anyhow::Error::from(error));
            std::process::exit(2);
        }
    }
}

/// Runs the command that the arguments name. Exit status: 0 success, 1 errors found (`explain`: denied), 2 unreadable
/// or invalid input.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Crds(args) => crds::run(args),
        Command::Dashboards(args) => dashboards::run(&args),
        Command::Check(args) => check::run(args),
        Command::Render(args) => render::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Stat(args) => stat::run(args),
        Command::Edges(args) => edges::run(args),
        Command::Top(args) => top::run(args),
        Command::Hosts(args) => hosts::run(args),
        Command::Inject(args) => inject::run(&args),
        Command::Status(args) => status::run(args),
        Command::Machine(args) => machine::run(args),
        Command::Redirect(args) => redirect::run(args),
        Command::Cni(args) => cni::run(args),
        Command::Try(args) => sandbox::run(args),
        Command::SandboxPart(args) => sandbox::part::run(args),
    }
}
