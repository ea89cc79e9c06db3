//! Measures how cost grows: the same change, which ten proxies see, in meshes of different sizes.
//!
//! Called by `main` with one series, in an empty cluster that is then filled step by step; adds to the data that `plot`
//! draws. Does not run the scenarios of `run`.

mod mesh;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    bench::{Bench, Settings},
    cluster::{Cluster, Pod},
    figures::{self, Row, in_millis, quantile},
    machine,
    process::{self, Plan},
    shape::Shape,
};
use mesh::{CALLEE, Mesh, RECEIVERS};

/// Quantity that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Series {
    Proxies,
    Services,
    Endpoints,
}

impl Series {
    pub fn name(self) -> &'static str {
        match self {
            Self::Proxies => "proxies",
            Self::Services => "services",
            Self::Endpoints => "endpoints",
        }
    }

    fn sizes(self) -> Vec<usize> {
        match self {
            Self::Proxies => vec![10, 100, 1000, 3000, 10_000],
            Self::Services => vec![10, 50, 250, 1000, 5000],
            Self::Endpoints => vec![100, 500, 2500, 10_000, 50_000],
        }
    }

    /// Describes what is constant, for readers.
    fn rest(self, fixed: &Fixed) -> String {
        let Fixed { services, pods } = fixed;
        match self {
            Self::Proxies => format!("{services} Services × {pods} pods"),
            Self::Services => format!("{pods} pods each, {RECEIVERS} proxies"),
            Self::Endpoints => format!("{services} Services, {RECEIVERS} proxies"),
        }
    }

    /// Returns the number of Services at a size, and the number of pods of each.
    fn shape(self, size: usize, fixed: &Fixed) -> (usize, usize) {
        match self {
            Self::Proxies => (fixed.services, fixed.pods),
            Self::Services => (size, fixed.pods),
            // The first two Services have a fixed number of pods.
            Self::Endpoints => {
                (fixed.services, (size.saturating_sub(2 * RECEIVERS) / (fixed.services - 2)).max(1))
            }
        }
    }
}

/// Sizes that do not grow.
struct Fixed {
    services: usize,
    pods: usize,
}

/// Arguments of a series.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Quantity that grows.
    #[arg(long, value_enum)]
    series: Series,
    /// Sizes of the series, from small to large.
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<usize>,
    /// Number of Services, where these do not grow; by default 1000, and 100 where endpoints grow.
    #[arg(long)]
    services: Option<usize>,
    /// Number of pods of each Service, where these do not grow; by default 10, and 2 where Services grow.
    #[arg(long)]
    pods: Option<usize>,
    /// Number of changes at each size.
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// Time limit of the changes at one size, in seconds.
    #[arg(long, default_value_t = 20)]
    budget: u64,
    /// File with the points of all series.
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    system: crate::System,
}

/// Points of one series.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Points {
    /// Command and machine of the run.
    pub about: BTreeMap<String, String>,
    /// Description of what is constant.
    pub rest: String,
    pub rows: Vec<Row>,
}

/// All series that were measured.
pub type Data = BTreeMap<Series, Points>;

/// Reads the data of a file; empty if there is no such file.
pub fn read(file: &Path) -> anyhow::Result<Data> {
    match std::fs::read(file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).with_context(|| format!("failed to read {}", file.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Data::new()),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", file.display())),
    }
}

/// Measures one series, and replaces its earlier points.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let fixed = Fixed {
        services: args.services.unwrap_or(if args.series == Series::Endpoints { 100 } else { 1000 }),
        pods: args.pods.unwrap_or(if args.series == Series::Services { 2 } else { 10 }),
    };
    let sizes = if args.sizes.is_empty() { args.series.sizes() } else { args.sizes.clone() };
    let least = sizes.iter().map(|size| args.series.shape(*size, &fixed).0).min().unwrap_or_default();
    anyhow::ensure!(least > 2, "less than three Services make no mesh to measure");
    let about = machine::about(&args.system.load);
    let plan = args.system.plan(&format!("growth-{}", args.series.name()))?;
    let mut cluster = Cluster::connect(&plan.kubeconfig).await?;
    cluster.install(&process::definitions(&plan.program)?).await?;
    let rows = points(&args, &sizes, &fixed, cluster, plan).await?;
    let rest = args.series.rest(&fixed);
    let clocked = figures::clocked(&rows);
    let mut data = read(&args.data)?;
    data.insert(args.series, Points { about, rest, rows });
    std::fs::write(&args.data, serde_json::to_vec_pretty(&data)?)
        .with_context(|| format!("failed to write {}", args.data.display()))?;
    clocked
}

async fn points(
    args: &Args,
    sizes: &[usize],
    fixed: &Fixed,
    cluster: Cluster,
    plan: Plan,
) -> anyhow::Result<Vec<Row>> {
    let nominal = Shape { services: fixed.services, pods: fixed.pods };
    let budget = Duration::from_secs(args.budget);
    let settings = Settings { shape: nominal, changes: args.changes, budget };
    let mut bench = Bench::open(cluster, settings, plan, &args.system.keys).await?;
    let most = match args.series {
        Series::Proxies => sizes.iter().copied().max().unwrap_or_default(),
        _ => RECEIVERS,
    };
    let (mut mesh, mut made, mut points) = (Mesh::default(), HashMap::new(), Vec::new());
    for size in sizes {
        let started = Instant::now();
        eprintln!("==> {} {}", size, args.series.name());
        let shape = args.series.shape(*size, fixed);
        let objects = mesh.grow(shape.0, shape.1);
        let mut row = Row::new(&format!("{}-{size}", args.series.name()), "");
        if !objects.is_empty() {
            fill(&mut bench, objects, &mut made).await?;
            let slots = mesh.slots().into_iter().take(most).map(|slot| {
                let pod = made.get(&Mesh::name(slot)).context("a pod was not made")?;
                Ok((pod, Shape::name(slot.0)))
            });
            bench.slot(slots.collect::<anyhow::Result<Vec<_>>>()?)?;
            bench.restart().await?;
            // The operator is ready once it has read everything: then it computes its first snapshot, and serves no
            // proxy yet.
            bench.published().await?;
            row.set("start_to_serving_s", bench.operator.started.elapsed().as_secs_f64());
        }
        let proxies = match args.series {
            Series::Proxies => (*size).min(mesh.endpoints()),
            _ => RECEIVERS,
        };
        point(&mut bench, &mut row, proxies).await?;
        row.set("services", mesh.services() as f64);
        row.set("endpoints", mesh.endpoints() as f64);
        let counts = (mesh.services(), mesh.endpoints());
        row.what = format!("{} Services, {} endpoints, {proxies} proxies", counts.0, counts.1);
        eprintln!("    {} took {:.0?}", row.what, started.elapsed());
        points.push(row);
    }
    baseline(&mut bench, &mut points).await?;
    Ok(points)
}

/// Adds objects while the operator is stopped: its memory is then what a mesh of that size needs, without traces of its
/// growth.
async fn fill(
    bench: &mut Bench,
    objects: Vec<crate::shape::Object>,
    made: &mut HashMap<(String, String), Pod>,
) -> anyhow::Result<()> {
    bench.operator.stop()?;
    bench.fleet.disconnect(true).await?;
    made.extend(bench.cluster.fill(objects).await?);
    Ok(())
}

/// Measures everything at one size. The proxies of the previous size may be connected; their number never falls.
async fn point(bench: &mut Bench, row: &mut Row, proxies: usize) -> anyhow::Result<()> {
    bench.settle().await?;
    if row.get("start_to_serving_s").is_some() {
        row.set("empty_resident_mb", process::memory(bench.operator.pid()).resident as f64 / 1e6);
    }
    let sent = bench.fleet.totals().await?;
    let connected = bench.connect(proxies).await?;
    row.set("configured_max_ms", quantile(&connected.times(), 1.0));
    bench.settle().await?;
    let totals = bench.fleet.totals().await?;
    anyhow::ensure!(totals.open == proxies as u64, "{} of {proxies} are connected", totals.open);
    row.set("proxies", proxies as f64);
    let new = connected.configured.len().max(1) as f64;
    row.set("connect_wire_bytes_each", (totals.wire - sent.wire) as f64 / new);
    let memory = process::memory(bench.operator.pid());
    row.set("resident_mb", memory.resident as f64 / 1e6);
    row.set("peak_mb", memory.peak as f64 / 1e6);
    let (cpu, idle) = (bench.operator.cpu(), Duration::from_secs(2));
    tokio::time::sleep(idle).await;
    let idled = bench.operator.cpu().saturating_sub(cpu);
    row.set("idle_cpu_ms_per_s", in_millis(idled) / idle.as_secs_f64());
    let change = bench.readiness(CALLEE, RECEIVERS).await?;
    bench.changes(row, change).await
}

/// Measures the baseline for ten receivers, which is the same at every size.
async fn baseline(bench: &mut Bench, points: &mut [Row]) -> anyhow::Result<()> {
    bench.fleet.disconnect(true).await?;
    bench.operator.stop()?;
    let Some((first, rest)) = points.split_first_mut() else { return Ok(()) };
    bench.baseline.script(1, 100).await?;
    bench.fleet.connect(&bench.baseline.target, RECEIVERS, Duration::from_mins(1)).await?;
    bench.baseline(first).await?;
    for row in rest {
        for figure in ["baseline_p50_ms", "baseline_p99_ms", "baseline_cpu_ms"] {
            row.set(figure, first.get(figure).unwrap_or_default());
        }
    }
    Ok(())
}
