//! Measures Smidge end to end: `smidge-bench run` fills a cluster that has no nodes, runs the operator as a plain process,
//! and stands for its proxies. `make bench` calls it, through `e2e/bench/bench`.
//!
//! Reads the command line and hands on. What comes out are figures, never a verdict.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "figures are for people, and every index here is of this program's own making"
)]

mod bench;
mod cluster;
mod figures;
mod fleet;
mod floor;
mod hop;
mod http2;
mod inject;
mod names;
mod null;
mod process;
mod report;
mod scenario;
mod shape;
mod sidecar;
mod tls;
mod token;
mod wire;

use std::{collections::BTreeMap, path::PathBuf};

use clap::Parser;

use crate::{
    bench::{Bench, Settings},
    figures::Run,
    process::Plan,
    scenario::Crowds,
    shape::Shape,
};

/// Measures Smidge.
#[derive(Debug, Parser)]
#[command(name = "smidge-bench")]
enum Cli {
    /// Every scenario, in an empty cluster.
    Run(RunArgs),
    /// The null server; `run` starts it.
    Null,
    /// What a sidecar adds to a request.
    #[command(subcommand)]
    Hop(hop::Command),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The program that is measured.
    #[arg(long)]
    smidge: PathBuf,
    /// The kubeconfig of an empty cluster, as its administrator.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// The folder with the cluster's keys.
    #[arg(long, env = "CLUSTER_PKI")]
    keys: PathBuf,
    /// Services in the mesh.
    #[arg(long, default_value_t = 1000)]
    services: usize,
    /// Pods of each Service, each with an endpoint.
    #[arg(long, default_value_t = 10)]
    pods: usize,
    /// Proxies that are connected in most scenarios.
    #[arg(long, default_value_t = 1000)]
    proxies: usize,
    /// Proxies in those that look at absolute times.
    #[arg(long, default_value_t = 200)]
    few: usize,
    /// Proxies in the one that looks at memory; 0 leaves it out.
    #[arg(long, default_value_t = 10_000)]
    many: usize,
    /// Changes of each kind.
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// The first of four ports of the operator.
    #[arg(long, default_value_t = 25_012)]
    port: u16,
    /// Where the results go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// What the results are called.
    #[arg(long, default_value = "bench")]
    name: String,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Null => null::serve(),
        Cli::Hop(command) => hop::run(&command),
        Cli::Run(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(args))
        }
    }
}

async fn run(args: RunArgs) -> anyhow::Result<()> {
    // Two providers are compiled in; a process must say which one it means.
    let _ = rustls::crypto::ring::default_provider().install_default();
    std::fs::create_dir_all(&args.out)?;
    let shape = Shape { services: args.services, pods: args.pods };
    let most = args.services * args.pods;
    let crowds = Crowds { usual: args.proxies.min(most), few: args.few.min(most), many: args.many.min(most) };
    let plan = Plan {
        program: args.smidge.clone(),
        kubeconfig: args.kubeconfig.clone(),
        port: args.port,
        log: args.out.join(format!("{}-operator.log", args.name)),
    };
    let proxies = crowds.usual.max(crowds.few).max(crowds.many);
    let settings = Settings { shape, changes: args.changes, proxies, keys: args.keys.clone() };
    let mut bench = Bench::open(settings, plan).await?;
    let rows = scenario::all(&mut bench, crowds).await?;
    let run = Run { about: about(&args), rows };
    println!("{}", report::tables(&run));
    report::write(&run, &args.out, &args.name)
}

fn about(args: &RunArgs) -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let machine = format!(
        "{cores} cores ({}), {} of memory, Linux {}",
        field(&read("/proc/cpuinfo"), "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim()
    );
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    let RunArgs { services, pods, proxies, few, many, changes, .. } = args;
    BTreeMap::from([
        ("command".to_owned(), std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
        (
            "shape".to_owned(),
            format!(
                "{services} Services × {pods} pods; {proxies}, {few} and {many} proxies; {changes} changes each"
            ),
        ),
        ("machine".to_owned(), machine),
        ("load before the report".to_owned(), load),
    ])
}
