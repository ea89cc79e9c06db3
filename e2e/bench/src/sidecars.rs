//! Measures what a sidecar adds: a request from one pod to another, with our configuration, with a minimal one, and
//! with none.
//!
//! `smidge-bench sidecars measure`, behind `make bench-sidecars`. Each path has two pods of its own (`sidecars::pods`),
//! a server (`sidecars::server`), and, but for the bare one, an Envoy at either end. One round measures all of them,
//! one after the other, in rotating order, so that a drift of the machine affects all alike; a second minimal path
//! shows how far two equal ones are apart. Does not use a cluster. The result are figures (`sidecars::tally`), no
//! verdict.

mod identity;
mod load;
mod minimal;
mod ours;
mod path;
mod pods;
mod reports;
mod server;
mod tally;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use self::{
    path::{Programs, Way},
    tally::Tally,
};
use crate::machine;

/// Subcommands: the measurement, and the programs that it starts.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Compare the paths.
    Measure(Args),
    /// Run the server; `measure` starts it.
    Server { address: SocketAddr },
    /// Run what receives the statistics of a proxy; `measure` starts it.
    Reports,
    /// Run the client; `measure` starts it.
    Load(load::Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Program whose configuration is measured. It need not be optimised: no request goes through it.
    #[arg(long)]
    smidge: PathBuf,
    #[arg(long, env = "ENVOY")]
    envoy: PathBuf,
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Requests per second, far below what either path can do.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Duration of each path in a round at that rate, in seconds.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Duration of each path in a round at the maximum rate, in seconds; 0 leaves that out.
    #[arg(long, default_value_t = 1.5)]
    saturated: f64,
    /// Also measure ours without some of its parts: fields of the configuration or filters, joined by `+`, or
    /// `discovery`, or `statistics`; may be repeated.
    #[arg(long, value_name = "PART+…")]
    without: Vec<String>,
    /// Folder of the results.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Name of the result files.
    #[arg(long, default_value = "sidecars")]
    name: String,
    #[command(flatten)]
    load: machine::Load,
}

/// Runs a command.
pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Server { address } => server::serve(*address),
        Command::Reports => reports::serve(),
        Command::Load(args) => load::run(args),
        Command::Measure(args) => measure(args),
    }
}

fn measure(args: &Args) -> anyhow::Result<()> {
    fs::create_dir_all(&args.out)?;
    pods::isolate()?;
    // Below /run, which every user may read and which is removed with this process.
    let folder = Path::new("/run/sidecars");
    fs::create_dir(folder)?;
    identity::write(folder)?;
    let envoy = path::mount(&args.envoy, folder)?;
    let version = path::version(&envoy)?;
    let programs = Programs { folder, envoy: &envoy, version: &version, smidge: &args.smidge };
    let mut ways = vec![Way::bare(folder)?];
    for name in [tally::MINIMAL, tally::CONTROL] {
        ways.push(Way::minimal(name, &programs)?);
    }
    ways.push(Way::ours(tally::OURS, &programs, &[])?);
    ways.push(Way::ours(tally::UNCOUNTED, &programs, &[ours::STATISTICS.to_owned()])?);
    for parts in &args.without {
        let name = format!("ours without {parts}");
        let parts: Vec<String> = parts.split('+').map(str::to_owned).collect();
        ways.push(Way::ours(&name, &programs, &parts)?);
    }
    let mut tally = Tally::default();
    for round in 0..args.rounds {
        eprintln!("==> round {} of {}", round + 1, args.rounds);
        for at in 0..ways.len() {
            let way = &ways[(round + at) % ways.len()];
            tally.add(&way.name, way.measure(args)?);
        }
    }
    println!("{}", tally.table());
    tally.write(args)
}
