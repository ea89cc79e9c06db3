//! A cluster, an operator and its proxies, and the one measurement that most scenarios are made of.
//!
//! Set up by `main`, used by `scenario`. Knows how a change is made and when it has arrived, and not which changes matter.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::Method;
use rustls_pki_types::ServerName;
use serde_json::Value;

use crate::{
    cluster::{Cluster, Watched},
    figures::{Row, in_millis, millis},
    fleet::{Fleet, Seat, Target, Totals},
    floor::Floor,
    process::{self, Operator, Plan},
    shape::Shape,
    tls,
    token::Signer,
    wire::Kind,
};

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Settings {
    pub shape: Shape,
    /// How many changes make a quantile.
    pub changes: usize,
    /// How many proxies there will be at most.
    pub proxies: usize,
    /// The folder with the cluster's keys.
    pub keys: PathBuf,
}

/// Everything that runs.
pub struct Bench {
    pub settings: Settings,
    pub cluster: Cluster,
    pub plan: Plan,
    pub operator: Operator,
    pub fleet: Fleet,
    pub floor: Floor,
    pub target: Target,
}

/// One kind of change.
pub struct Change<'a> {
    pub watched: &'a mut Watched,
    /// Made in turn.
    pub patches: [Value; 2],
    /// The resource that carries it.
    pub carrier: (Kind, String),
    /// How many proxies see it.
    pub receivers: usize,
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two changes: all acknowledgements have come, and the operator has nothing more to do.
const QUIET: Duration = Duration::from_millis(40);

impl Bench {
    /// Fills the cluster, starts the operator, and makes tokens for the proxies.
    pub async fn open(settings: Settings, plan: Plan) -> anyhow::Result<Self> {
        let mut cluster = Cluster::connect(&plan.kubeconfig).await?;
        cluster.install(&process::definitions(&plan.program)?).await?;
        let Shape { services, pods } = settings.shape;
        eprintln!("==> filling the cluster: {services} Services with {pods} pods each");
        let started = Instant::now();
        let pods = cluster.fill(settings.shape).await?;
        eprintln!("    took {:.0?}", started.elapsed());
        // The first start makes the authorities, which the figures are not about.
        let mut operator = plan.start()?;
        operator.ready(PATIENCE).await?;
        let target = target(&cluster, &plan).await?;
        let signer = Signer::of(&cluster, &settings.keys).await?;
        let seats = pods.iter().take(settings.proxies).enumerate().map(|(seat, pod)| {
            let (service, _) = settings.shape.seat(seat);
            Ok(Seat { node: format!("{}.{}", pod.name, pod.namespace), token: signer.token(pod, service)? })
        });
        let seats = seats.collect::<anyhow::Result<Vec<Seat>>>()?;
        let fleet = Fleet::start()?;
        fleet.seat(seats)?;
        let floor = Floor::start()?;
        Ok(Self { settings, cluster, plan, operator, fleet, floor, target })
    }

    /// Ends the operator and starts it again; the answer is how long it took to be ready.
    pub async fn restart(&mut self) -> anyhow::Result<Duration> {
        let next = {
            // Its ports must be free before the next one takes them.
            self.operator.stop()?;
            self.plan.start()?
        };
        self.operator = next;
        self.operator.ready(PATIENCE).await
    }

    /// Connects the first `count` proxies.
    pub async fn connect(&self, count: usize) -> anyhow::Result<crate::fleet::Connected> {
        let mut target = self.target.clone();
        // A thousand at once; of ten thousand, no more than that at a time, as they do not start in one instant.
        target.window = 1000;
        self.fleet.connect(&target, count, Duration::from_mins(2)).await
    }

    /// Makes changes one after the other, each when the one before has arrived everywhere.
    pub async fn changes(&mut self, row: &mut Row, change: Change<'_>) -> anyhow::Result<()> {
        let Change { watched, patches, carrier: (kind, name), receivers } = change;
        let (mut first, mut last) = (Vec::new(), Vec::new());
        let mut before = None;
        let warm = 6;
        for number in 0..warm + self.settings.changes {
            if number == warm {
                tokio::time::sleep(Duration::from_millis(200)).await;
                before = Some(self.costs().await?);
            }
            let answer = self.fleet.expect(kind, &name, receivers)?;
            let patch = patches.get(number % 2).context("no patch")?;
            let from = watched.change(patch).await?;
            let times = tokio::time::timeout(PATIENCE, answer).await;
            let times = times.with_context(|| format!("change {number} of {name} did not arrive"))??;
            if number >= warm {
                first.extend(times.first().map(|at| millis(from, *at)));
                last.extend(times.last().map(|at| millis(from, *at)));
            }
            tokio::time::sleep(QUIET).await;
        }
        let before = before.context("no change was made")?;
        let after = self.costs().await?;
        let each = |value: f64| value / self.settings.changes as f64;
        row.set("receivers", receivers as f64);
        row.quantiles("last", &last);
        row.quantiles("first", &first);
        row.set("cpu_ms", each(in_millis(after.operator.saturating_sub(before.operator))));
        row.set("client_cpu_ms", each(in_millis(after.client.saturating_sub(before.client))));
        row.set("bytes", each((after.totals.bytes - before.totals.bytes) as f64));
        row.set("messages", each((after.totals.messages - before.totals.messages) as f64));
        row.set("resources", each((after.resources() - before.resources()) as f64));
        row.set("woken", each(after.woken - before.woken));
        eprintln!(
            "    {}: p50 {:.1} ms, p99 {:.1} ms, CPU {:.2} ms",
            row.id,
            row.get("last_p50_ms").unwrap_or_default(),
            row.get("last_p99_ms").unwrap_or_default(),
            row.get("cpu_ms").unwrap_or_default()
        );
        Ok(())
    }

    /// What the same change costs with a server that only writes. The proxies must be connected to the null server.
    pub async fn floor(&mut self, row: &mut Row) -> anyhow::Result<()> {
        let receivers = row.get("receivers").unwrap_or_default();
        let bytes = row.get("bytes").unwrap_or_default() / receivers.max(1.0);
        let size = (receivers as usize, bytes as usize, self.settings.changes);
        self.floor.measure(&self.fleet, row, size).await?;
        for (name, one, other) in [
            ("ratio_p50", "last_p50_ms", "floor_p50_ms"),
            ("ratio_p99", "last_p99_ms", "floor_p99_ms"),
            ("ratio_cpu", "cpu_ms", "floor_cpu_ms"),
        ] {
            if let (Some(one), Some(other)) = (row.get(one), row.get(other)) {
                row.set(name, one / other.max(0.001));
            }
        }
        Ok(())
    }

    /// What was used so far.
    pub async fn costs(&self) -> anyhow::Result<Costs> {
        Ok(Costs {
            operator: process::cpu(self.operator.pid()),
            client: process::own_cpu("fleet"),
            totals: self.fleet.totals().await?,
            woken: self.operator.counter("smidge_xds_streams_woken_total")?,
        })
    }
}

/// What was used up to a moment.
pub struct Costs {
    pub operator: Duration,
    pub client: Duration,
    pub totals: Totals,
    pub woken: f64,
}

impl Costs {
    pub fn resources(&self) -> u64 {
        self.totals.resources.iter().sum()
    }
}

/// Where the proxies find the operator, and what they trust: the roots as every bootstrap has them.
async fn target(cluster: &Cluster, plan: &Plan) -> anyhow::Result<Target> {
    Ok(Target {
        addresses: tls::loopback(plan.xds()),
        tls: Arc::new(tls::client(&roots(cluster, "control-plane").await?)?),
        server_name: ServerName::try_from("smidge.smidge-system.svc").context("no name")?,
        script: None,
        window: usize::MAX,
    })
}

/// The roots of one of the operator's authorities, PEM.
pub async fn roots(cluster: &Cluster, authority: &str) -> anyhow::Result<Vec<String>> {
    let path = format!("{}/smidge-root-{authority}", cluster.path("Secret", "smidge-system")?);
    let secret = cluster.call(Method::GET, &path, None).await?;
    let data = secret.get("data").and_then(Value::as_object).context("a Secret without data")?;
    let certificates = data.iter().filter(|(name, _)| ["active.crt", "standby.crt"].contains(&name.as_str()));
    let texts = certificates.map(|(_, value)| {
        let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default())?;
        anyhow::Ok(String::from_utf8(bytes)?)
    });
    texts.collect()
}
