//! Measures Smidge end to end: `smidge-bench run` fills a cluster that has no nodes, runs the operator as a plain process,
//! and stands for its proxies; `growth` does so in meshes of other sizes. `make bench` and `make bench-growth` call it,
//! through `e2e/bench/bench`.
//!
//! Reads the command line and hands on. What comes out are figures, and beside them what they are to be; a target that is
//! missed is no failure.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "figures are for people, and every index here is of this program's own making"
)]

mod bench;
mod churn;
mod cluster;
mod costs;
mod fairness;
mod figures;
mod fleet;
mod floor;
mod growth;
mod hostile;
mod http2;
mod inject;
mod ledger;
mod machine;
mod manner;
mod names;
mod null;
mod permissive;
mod plot;
mod process;
mod report;
mod review;
mod scenario;
mod seats;
mod shape;
mod sidecar;
mod sidecars;
mod targets;
mod tls;
mod token;
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
    ledger::Ledger,
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
    /// Every proxy sees every Service: the operator with access enforced, and then permissive.
    Permissive(RunArgs),
    /// What others notice of attacks on the operator's ports.
    Hostile(RunArgs),
    /// Goes on with an attack until it is killed; `hostile` starts it.
    Attack(hostile::AttackArgs),
    /// How cost grows, one series at a time, each in an empty cluster.
    Growth(growth::Args),
    /// Draws what `growth` has measured.
    Plot {
        /// The file with the points of all series.
        #[arg(long)]
        data: PathBuf,
        /// Where the pictures go.
        #[arg(long)]
        out: PathBuf,
    },
    /// The null server; `run` and `growth` start it.
    Null,
    /// What sidecars add to a request.
    #[command(subcommand)]
    Sidecars(sidecars::Command),
}

/// What is measured, and where.
#[derive(Debug, clap::Args)]
struct System {
    /// The program that is measured.
    #[arg(long)]
    smidge: PathBuf,
    /// The kubeconfig of an empty cluster, as its administrator.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// The folder with the cluster's keys.
    #[arg(long, env = "CLUSTER_PKI")]
    keys: PathBuf,
    /// The first of four ports of the operator.
    #[arg(long, default_value_t = 25_012)]
    port: u16,
    /// Where the results and the operator's log go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    #[command(flatten)]
    load: machine::Load,
}

impl System {
    /// How the operator is started in a run of that name.
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
    /// The seconds that the changes of one kind may take.
    #[arg(long, default_value = "30", value_parser = seconds)]
    budget: Duration,
    /// How many seconds each attack of `hostile` goes on.
    #[arg(long, default_value = "60", value_parser = seconds)]
    attack: Duration,
    /// The results of `sidecars measure`, for the tables.
    #[arg(long)]
    sidecars: Option<PathBuf>,
    /// The results of the benches of single hops, for the tables.
    #[arg(long)]
    hops: Option<PathBuf>,
    /// What the results are called.
    #[arg(long, default_value = "bench")]
    name: String,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Null => null::serve(),
        Cli::Sidecars(command) => sidecars::run(&command),
        Cli::Plot { data, out } => plot::draw(&growth::read(&data)?, &out),
        Cli::Run(args) => block_on(run(args, Scenarios::All)),
        Cli::Permissive(args) => block_on(run(args, Scenarios::Permissive)),
        Cli::Hostile(args) => block_on(run(args, Scenarios::Hostile)),
        Cli::Attack(args) => block_on(hostile::attack(args)),
        Cli::Growth(args) => block_on(growth::run(args)),
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // Two providers are compiled in; a process must say which one it means.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Which scenarios are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenarios {
    /// Those that the targets are about.
    All,
    Permissive,
    Hostile,
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
    let mut ledger = Ledger::open(about, args.system.out, args.name, scenarios == Scenarios::All)?;
    if let Some(file) = &args.sidecars {
        ledger.add_all(file)?;
    }
    if let Some(file) = &args.hops {
        ledger.add(leaf_certificates(file)?)?;
    }
    let shape = Shape { services, pods };
    let most = services * pods;
    let crowds = Crowds { usual: proxies.min(most), few: few.min(most), many: many.min(most) };
    let mut cluster = Cluster::connect(&plan.kubeconfig).await?;
    cluster.install(&process::definitions(&plan.program)?).await?;
    eprintln!("==> filling the cluster: {services} Services with {pods} pods each");
    let made = cluster.fill(shape.objects()).await?;
    let settings = Settings { shape, changes, budget: args.budget };
    let mut bench = Bench::open(cluster, settings, plan, &args.system.keys).await?;
    let seats = (0..crowds.usual.max(crowds.few).max(crowds.many)).map(|seat| {
        let (service, pod) = shape.seat(seat);
        let pod = made.get(&(Shape::namespace(service), Shape::pod(service, pod)));
        pod.map(|pod| (pod, Shape::name(service))).context("a pod was not made")
    });
    bench.seat(seats.collect::<anyhow::Result<Vec<_>>>()?)?;
    let outcome = match scenarios {
        Scenarios::All => scenario::all(&mut bench, crowds, &mut ledger).await,
        Scenarios::Permissive => permissive::all(&mut bench, crowds.usual, &mut ledger).await,
        Scenarios::Hostile => hostile::all(&mut bench, crowds.usual, attack, &mut ledger).await,
    };
    ledger.note("took", format!("{:.0} s", started.elapsed().as_secs_f64()));
    ledger.write()?;
    // Whatever was measured is worth having, even if the rest was not.
    println!("{}", ledger.tables());
    outcome.and_then(|()| ledger.clocked())
}

/// How many leaf certificates one core makes, of the results of the benches of single hops.
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
