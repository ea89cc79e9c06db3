//! A cluster, an operator and its proxies, and the one measurement that most scenarios are made of.
//!
//! Set up by `main` and `growth`, used by the scenarios. Knows how a change is made and when it has arrived, and not which changes matter.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::Method;
use rustls_pki_types::ServerName;
use serde_json::Value;

use crate::{
    cluster::{Cluster, Pod, Watched},
    figures::{Row, in_millis, millis},
    fleet::{Connected, Fleet, Seat, Target, Totals},
    floor::Floor,
    process::{self, Operator, Plan},
    shape::Shape,
    tls,
    token::Signer,
    wire::Kind,
};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub shape: Shape,
    /// How many changes make a quantile.
    pub changes: usize,
    /// How long these may take; at least a fifth of them is made.
    pub budget: Duration,
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
    signer: Signer,
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
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two changes: all acknowledgements have come, and the operator has nothing more to do.
const QUIET: Duration = Duration::from_millis(40);
/// The longest that is waited for an operator that rests.
const LONGEST_REST: Duration = Duration::from_secs(2);
/// For how long nothing may have happened for everything to be over, beside what the operator may rest.
const STILL: Duration = Duration::from_secs(1);
/// Changes before those that count.
const WARM: usize = 6;

impl Bench {
    /// Starts everything, in a cluster with our definitions in it. Nobody has a seat yet.
    pub async fn open(cluster: Cluster, settings: Settings, plan: Plan, keys: &Path) -> anyhow::Result<Self> {
        // The first start makes the authorities, which the figures are not about.
        let mut operator = plan.start()?;
        operator.ready(PATIENCE).await?;
        let target = target(&cluster, &plan).await?;
        let signer = Signer::of(&cluster, keys).await?;
        let (fleet, floor) = (Fleet::start()?, Floor::start()?);
        Ok(Self { settings, cluster, plan, operator, fleet, floor, target, signer })
    }

    /// Says whose proxies there are: each pod with the account that it runs under. None may be connected.
    pub fn seat<'a>(&self, pods: impl IntoIterator<Item = (&'a Pod, String)>) -> anyhow::Result<()> {
        let seats = pods.into_iter().map(|(pod, account)| {
            let node = format!("{}.{}", pod.name, pod.namespace);
            Ok(Seat { node, token: self.signer.token(pod, &account)? })
        });
        self.fleet.seat(seats.collect::<anyhow::Result<Vec<Seat>>>()?)
    }

    /// Ends the operator and starts it again; the answer is how long it took to be ready.
    pub async fn restart(&mut self) -> anyhow::Result<Duration> {
        // Its ports must be free before the next one takes them.
        self.operator.stop()?;
        self.operator = self.plan.start()?;
        self.operator.ready(PATIENCE).await
    }

    /// Waits until nothing goes on any more: no snapshot is published, no status written or waiting to be, and no proxy
    /// is sent anything.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let (mut last, mut since, mut still) = (None, started, STILL);
        while since.elapsed() < still {
            let operator = self.operator.counters(&[
                "smidge_publish_duration_seconds_count",
                "smidge_publish_duration_seconds_sum",
                "smidge_status_writes_total",
                "smidge_status_writes_waiting",
            ])?;
            if let [count, sum, ..] = operator.as_slice() {
                // It rests for twice as long as a publish took, and then goes on with what has come meanwhile.
                still = STILL + Duration::from_secs_f64(4.0 * sum / count.max(1.0));
            }
            self.operator.cpu();
            let totals = self.fleet.totals().await?;
            let waiting = operator.last().is_some_and(|waiting| *waiting > 0.0);
            let now = Some((operator, totals.messages, totals.open));
            if now != last || waiting {
                (last, since) = (now, Instant::now());
            }
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "after {PATIENCE:?} there is no end to it: {last:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until the operator has published what it read.
    pub async fn published(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.operator.counters(&["smidge_publishes_total"])? == [0.0] {
            anyhow::ensure!(started.elapsed() < PATIENCE, "nothing was published");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Connects the first `count` proxies.
    pub async fn connect(&self, count: usize) -> anyhow::Result<Connected> {
        let mut target = self.target.clone();
        // A thousand at once; of ten thousand, no more than that at a time, as they do not start in one instant.
        target.window = 1000;
        self.fleet.connect(&target, count, PATIENCE).await
    }

    /// Makes changes one after the other, each when the one before has arrived everywhere.
    pub async fn changes(&mut self, row: &mut Row, mut change: Change<'_>) -> anyhow::Result<()> {
        let Settings { changes, budget, .. } = self.settings;
        for number in 0..WARM {
            self.change(&mut change, number).await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (mut first, mut last) = (Vec::new(), Vec::new());
        let (before, started) = (self.costs().await?, Instant::now());
        while last.len() < changes && (last.len() < changes / 5 || started.elapsed() < budget) {
            let times = self.change(&mut change, WARM + last.len()).await?;
            first.extend(times.first().copied());
            last.push(times.last().copied().context("a change that nobody sees")?);
        }
        let after = self.costs().await?;
        let made = last.len();
        // Whatever comes next finds the object as it was.
        if made % 2 == 1 {
            self.change(&mut change, WARM + made).await?;
        }
        let each = |value: f64| value / made as f64;
        row.set("changes", made as f64);
        row.set("receivers", change.receivers as f64);
        row.quantiles("last", &last);
        row.quantiles("first", &first);
        row.set("cpu_ms", each(in_millis(after.operator.saturating_sub(before.operator))));
        row.set("client_cpu_ms", each(in_millis(after.client.saturating_sub(before.client))));
        row.set("bytes", each((after.totals.bytes - before.totals.bytes) as f64));
        row.set("mb", row.get("bytes").unwrap_or_default() / 1e6);
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

    /// Makes one change; the answer is when each receiver had it, in milliseconds after the watch told of it.
    async fn change(&self, change: &mut Change<'_>, number: usize) -> anyhow::Result<Vec<f64>> {
        let Change { watched, patches, carrier: (kind, name), receivers } = change;
        let answer = self.fleet.expect(*kind, name, *receivers)?;
        let from = watched.change(patches.get(number % 2).context("no patch")?).await?;
        let times = tokio::time::timeout(PATIENCE, answer).await;
        let times = times.with_context(|| format!("change {number} of {name} did not arrive"))??;
        // An operator that needed long rests for twice as long: the next change would wait for that, and not be alone.
        let took = times.last().map_or(Duration::ZERO, |last| last.saturating_duration_since(from));
        tokio::time::sleep(QUIET + (took * 2).min(LONGEST_REST)).await;
        self.operator.cpu();
        Ok(times.into_iter().map(|at| millis(from, at)).collect())
    }

    /// What the same change costs with a server that only writes. The proxies must be connected to the null server.
    pub async fn floor(&mut self, row: &mut Row) -> anyhow::Result<()> {
        let receivers = row.get("receivers").unwrap_or_default();
        let bytes = row.get("bytes").unwrap_or_default() / receivers.max(1.0);
        let size = (receivers as usize, bytes as usize, self.settings.changes);
        self.floor.measure(&self.fleet, row, size).await?;
        row.divide("ratio_p50", "last_p50_ms", "floor_p50_ms");
        row.divide("ratio_p99", "last_p99_ms", "floor_p99_ms");
        row.divide("ratio_cpu", "cpu_ms", "floor_cpu_ms");
        Ok(())
    }

    /// What was used so far.
    pub async fn costs(&self) -> anyhow::Result<Costs> {
        Ok(Costs {
            operator: self.operator.cpu(),
            client: process::own_cpu("fleet"),
            totals: self.fleet.totals().await?,
            woken: self.operator.counters(&["smidge_xds_streams_woken_total"])?.into_iter().sum(),
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
