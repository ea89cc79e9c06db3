//! Measures Smidge end to end: `smidge-bench run` fills a cluster that has no nodes, runs the operator as a plain
//! process, and simulates its proxies; `growth` does so in meshes of different sizes. `make bench` and `make
//! bench-growth` call it, through `e2e/bench/bench`.
//!
//! Reads the command line and starts the measurement. The result are figures, and targets beside them; a missed target
//! is no failure.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "figures are for people, and every index here is of this program's own making"
)]

mod baseline;
mod baseline_server;
mod behaviour;
mod bench;
mod churn;
mod cluster;
mod costs;
mod fairness;
mod figures;
mod fleet;
mod folder;
mod growth;
mod hostile;
mod http2;
mod inject;
mod machine;
mod names;
mod permissive;
mod plot;
mod process;
mod push;
mod report;
mod results;
mod review;
mod scenario;
mod shape;
mod sidecar;
mod sidecars;
mod slots;
mod targets;
mod tls;
mod token;
mod traffic;
mod wire;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;

use crate::{
    bench::{Bench, Settings},
    cluster::Cluster,
    figures::Row,
    process::Plan,
    results::Results,
    scenario::ProxyCounts,
    shape::Shape,
};

/// Measures Smidge end to end.
#[derive(Debug, Parser)]
#[command(name = "smidge-bench")]
enum Cli {
    /// Measure every scenario, in an empty cluster.
    Run(RunArgs),
    /// Measure the operator with access enforced, and then permissive, where every proxy sees every Service.
    Permissive(RunArgs),
    /// Measure an edit of a file of a folder, beside the same edit in an API server.
    Folder(RunArgs),
    /// Measure what the statistics that proxies push cost the operator.
    Traffic(RunArgs),
    /// Measure the effect of attacks on the operator's ports.
    Hostile(RunArgs),
    /// Attack until the process is killed; `hostile` starts it.
    Attack(hostile::AttackArgs),
    /// Measure how cost grows, one series at a time, each in an empty cluster.
    Growth(growth::Args),
    /// Draw what `growth` has measured.
    Plot {
        /// File with the points of all series.
        #[arg(long)]
        data: PathBuf,
        /// Folder of the pictures.
        #[arg(long)]
        out: PathBuf,
    },
    /// Run the baseline server; `run` and `growth` start it.
    Baseline,
    /// Measure what sidecars add to a request.
    #[command(subcommand)]
    Sidecars(sidecars::Command),
}

/// Arguments about the program and the cluster.
#[derive(Debug, clap::Args)]
struct System {
    /// Program that is measured.
    #[arg(long)]
    smidge: PathBuf,
    /// Kubeconfig of an empty cluster, as its administrator.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// Folder with the cluster's keys.
    #[arg(long, env = "CLUSTER_PKI")]
    keys: PathBuf,
    /// First of four ports of the operator.
    #[arg(long, default_value_t = 25_012)]
    port: u16,
    /// Folder of the results and of the operator's log.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    #[command(flatten)]
    load: machine::Load,
}

impl System {
    /// Returns how to start the operator in a run of that name.
    fn plan(&self, name: &str) -> anyhow::Result<Plan> {
        std::fs::create_dir_all(&self.out)?;
        let log = self.out.join(format!("{name}-operator.log"));
        let (program, kubeconfig) = (self.smidge.clone(), self.kubeconfig.clone());
        Ok(Plan { program, kubeconfig, port: self.port, log })
    }
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    system: System,
    /// Number of Services in the mesh.
    #[arg(long, default_value_t = 1000)]
    services: usize,
    /// Number of pods of each Service, each with an endpoint.
    #[arg(long, default_value_t = 10)]
    pods: usize,
    /// Number of proxies that are connected in most scenarios.
    #[arg(long, default_value_t = 1000)]
    proxies: usize,
    /// Number of proxies in the scenarios for absolute times.
    #[arg(long, default_value_t = 200)]
    few: usize,
    /// Number of proxies in the scenario for memory; 0 leaves it out.
    #[arg(long, default_value_t = 10_000)]
    many: usize,
    /// Number of changes of each kind.
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// Time limit of the changes of one kind, in seconds.
    #[arg(long, default_value = "30", value_parser = seconds)]
    budget: Duration,
    /// Duration of each attack of `hostile`, and of each measurement of `traffic`, in seconds.
    #[arg(long, default_value = "60", value_parser = seconds)]
    attack: Duration,
    /// File with the results of `sidecars measure`, for the tables.
    #[arg(long)]
    sidecars: Option<PathBuf>,
    /// File with the results of the benches of single hops, for the tables.
    #[arg(long)]
    hops: Option<PathBuf>,
    /// Name of the result files.
    #[arg(long, default_value = "bench")]
    name: String,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Baseline => baseline_server::serve(),
        Cli::Sidecars(command) => sidecars::run(&command),
        Cli::Plot { data, out } => plot::draw(&growth::read(&data)?, &out),
        Cli::Run(args) => block_on(run(args, Scenarios::All)),
        Cli::Permissive(args) => block_on(run(args, Scenarios::Permissive)),
        Cli::Folder(args) => block_on(run(args, Scenarios::Folder)),
        Cli::Traffic(args) => block_on(run(args, Scenarios::Traffic)),
        Cli::Hostile(args) => block_on(run(args, Scenarios::Hostile)),
        Cli::Attack(args) => block_on(hostile::attack(args)),
        Cli::Growth(args) => block_on(growth::run(args)),
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // Two crypto providers are compiled in; a process must choose one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Selection of scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenarios {
    /// Those to which the targets apply.
    All,
    Permissive,
    Folder,
    Hostile,
    Traffic,
}

async fn run(args: RunArgs, scenarios: Scenarios) -> anyhow::Result<()> {
    let RunArgs { services, pods, proxies, few, many, changes, attack, .. } = args;
    let started = Instant::now();
    let mut about = machine::about(&args.system.load);
    let sizes = format!(
        "{services} Services × {pods} pods; {proxies}, {few} and {many} proxies; {changes} changes each"
    );
    about.insert("shape".to_owned(), sizes);
    let plan = args.system.plan(&args.name)?;
    let mut results = Results::open(about, args.system.out, args.name, scenarios == Scenarios::All)?;
    if let Some(file) = &args.sidecars {
        results.add_all(file)?;
    }
    if let Some(file) = &args.hops {
        results.add(leaf_certificates(file)?)?;
    }
    let shape = Shape { services, pods };
    let most = services * pods;
    let proxy_counts = ProxyCounts { usual: proxies.min(most), few: few.min(most), many: many.min(most) };
    let mut cluster = Cluster::connect(&plan.kubeconfig).await?;
    cluster.install(&process::definitions(&plan.program)?).await?;
    eprintln!("==> filling the cluster: {services} Services with {pods} pods each");
    let made = cluster.fill(shape.objects()).await?;
    let settings = Settings { shape, changes, budget: args.budget };
    let mut bench = Bench::open(cluster, settings, plan, &args.system.keys).await?;
    let slots = (0..proxy_counts.usual.max(proxy_counts.few).max(proxy_counts.many)).map(|slot| {
        let (service, pod) = shape.slot(slot);
        let pod = made.get(&(Shape::namespace(service), Shape::pod(service, pod)));
        pod.map(|pod| (pod, Shape::name(service))).context("a pod was not made")
    });
    bench.slot(slots.collect::<anyhow::Result<Vec<_>>>()?)?;
    let outcome = match scenarios {
        Scenarios::All => scenario::all(&mut bench, proxy_counts, &mut results).await,
        Scenarios::Permissive => permissive::all(&mut bench, proxy_counts.usual, &mut results).await,
        Scenarios::Folder => folder::all(&mut bench, proxy_counts.few, &mut results).await,
        Scenarios::Traffic => traffic::all(&mut bench, proxy_counts.usual, attack, &mut results).await,
        Scenarios::Hostile => hostile::all(&mut bench, proxy_counts.usual, attack, &mut results).await,
    };
    results.note("took", format!("{:.0} s", started.elapsed().as_secs_f64()));
    results.write()?;
    // The rows that were measured are printed, even if the others failed.
    println!("{}", results.tables());
    outcome.and_then(|()| results.clocked())
}

/// Reads the number of leaf certificates that one core issues per second from the results of the benches of single
/// hops.
fn leaf_certificates(file: &Path) -> anyhow::Result<Row> {
    #[derive(serde::Deserialize)]
    struct Hop {
        hop: String,
        ns: f64,
    }
    let text = std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    let hops: Vec<Hop> = serde_json::from_slice(&text)?;
    let issued = hops.iter().find(|hop| hop.hop == "certificate, one core").context("no such hop")?;
    let mut row = Row::new("leaf-certificates", "leaf certificates on one core");
    row.set("per_second", 1e9 / issued.ns);
    Ok(row)
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    Ok(Duration::from_secs(text.parse()?))
}
