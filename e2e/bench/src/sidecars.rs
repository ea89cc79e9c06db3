//! What a sidecar adds: a request from one pod to another, with our configuration, with a minimal one, and with none.
//!
//! `smidge-bench sidecars measure`, behind `make bench-sidecars`. Each path has two pods of its own (`sidecars::pods`),
//! a server (`sidecars::server`), and, but for the bare one, an Envoy at either end. One round measures all of them,
//! one after the other, in turns of order, so that a machine that drifts does so under all alike; a second minimal path
//! tells how far two equal ones are apart. Knows nothing of a cluster. Figures come out (`sidecars::tally`), no
//! verdict.

mod identity;
mod load;
mod minimal;
mod ours;
mod path;
mod pods;
mod server;
mod tally;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use self::{path::Way, tally::Tally};
use crate::machine;

/// What is measured and what takes part in it.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Compare the paths.
    Measure(Args),
    /// The server; `measure` starts it.
    Server { address: SocketAddr },
    /// The client; `measure` starts it.
    Load(load::Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The program whose configuration is measured. It need not be optimised: no request goes through it.
    #[arg(long)]
    smidge: PathBuf,
    #[arg(long, env = "ENVOY")]
    envoy: PathBuf,
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Requests a second, far below what either path can do.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Seconds of each path in a round, at that rate.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Seconds of each path in a round, at as many requests as are answered; 0 leaves that out.
    #[arg(long, default_value_t = 1.5)]
    saturated: f64,
    /// Measures ours without some of its parts as well: fields of the configuration or filters, joined by `+`, or
    /// `discovery`; may be repeated.
    #[arg(long, value_name = "PART+…")]
    without: Vec<String>,
    /// Where the results go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// What the results are called.
    #[arg(long, default_value = "sidecars")]
    name: String,
    #[command(flatten)]
    load: machine::Load,
}

/// Runs a command.
pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Server { address } => server::serve(*address),
        Command::Load(args) => load::run(args),
        Command::Measure(args) => measure(args),
    }
}

fn measure(args: &Args) -> anyhow::Result<()> {
    fs::create_dir_all(&args.out)?;
    pods::isolate()?;
    // Below /run, which every user may read and which goes with this process.
    let folder = Path::new("/run/sidecars");
    fs::create_dir(folder)?;
    identity::write(folder)?;
    let envoy = path::mount(&args.envoy, folder)?;
    let mut ways = vec![Way::bare(folder)?];
    for name in [tally::MINIMAL, tally::CONTROL] {
        ways.push(Way::minimal(name, folder, &envoy, &args.smidge)?);
    }
    ways.push(Way::ours(tally::OURS, folder, &envoy, &args.smidge, &[])?);
    for parts in &args.without {
        let name = format!("ours without {parts}");
        let parts: Vec<String> = parts.split('+').map(str::to_owned).collect();
        ways.push(Way::ours(&name, folder, &envoy, &args.smidge, &parts)?);
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
