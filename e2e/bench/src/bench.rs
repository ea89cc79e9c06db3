//! Cluster, operator and proxies of a run, and the measurement of one change on which most scenarios are built.
//!
//! Set up by `main` and `growth`, used by the scenarios. Makes a change and detects when it has arrived; does not
//! choose the changes.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::Method;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};

use crate::{
    baseline::{BaselineRun, Traffic},
    cluster::{Cluster, Pod, Watched},
    costs::Costs,
    figures::{Row, Times, millis},
    fleet::{Connected, Fleet, Slot, Target},
    process::{self, Operator, Plan},
    shape::Shape,
    tls,
    token::Signer,
    wire::Kind,
};

/// Extent of the measurements.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub shape: Shape,
    /// Number of changes for a quantile.
    pub changes: usize,
    /// Time limit of these changes; at least a fifth of them is made.
    pub budget: Duration,
}

/// Everything that runs.
pub struct Bench {
    pub settings: Settings,
    pub cluster: Cluster,
    pub plan: Plan,
    pub operator: Operator,
    pub fleet: Fleet,
    pub baseline: BaselineRun,
    pub target: Target,
    signer: Signer,
}

/// One kind of change.
pub struct Change {
    pub watched: Watched,
    /// The two patches, applied in turn.
    pub patches: [Value; 2],
    /// Resource that carries the change.
    pub carrier: (Kind, String),
    /// Number of proxies that see the change.
    pub receivers: usize,
}

/// Time limit of each wait.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Delay between two changes: all ACKs have arrived, and the operator is idle.
pub const QUIET: Duration = Duration::from_millis(40);
/// Maximum time to wait for an operator that pauses between two publishes.
const LONGEST_REST: Duration = Duration::from_secs(2);
/// Time without activity after which everything has settled, beside the pause of the operator.
const STILL: Duration = Duration::from_secs(1);
/// Number of changes before those that are measured.
const WARM: usize = 6;

impl Bench {
    /// Starts everything, in a cluster in which the CRDs are installed. No proxy has a pod yet.
    pub async fn open(cluster: Cluster, settings: Settings, plan: Plan, keys: &Path) -> anyhow::Result<Self> {
        // The first start creates the authorities, which is not to be measured.
        let mut operator = plan.start()?;
        operator.ready(TIMEOUT).await?;
        let target = target(&cluster, &plan).await?;
        let signer = Signer::of(&cluster, keys).await?;
        let (fleet, baseline) = (Fleet::start()?, BaselineRun::start().await?);
        Ok(Self { settings, cluster, plan, operator, fleet, baseline, target, signer })
    }

    /// Sets the pods of the proxies, each with its ServiceAccount. No proxy may be connected.
    pub fn slot<'a>(&self, pods: impl IntoIterator<Item = (&'a Pod, String)>) -> anyhow::Result<()> {
        let slots = pods.into_iter().map(|(pod, account)| {
            let node = format!("{}.{}", pod.name, pod.namespace);
            Ok(Slot { node, token: self.signer.token(pod, &account)?, tls: None })
        });
        self.fleet.slot(slots.collect::<anyhow::Result<Vec<Slot>>>()?)
    }

    /// Restarts the operator; it has then read every object, but may not have served any proxy.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        // Its ports must be free before the next process binds them.
        self.operator.stop()?;
        self.operator = self.plan.start()?;
        self.operator.ready(TIMEOUT).await
    }

    /// Waits until everything has settled: there is a snapshot, no other one is published, no status write is made or
    /// pending, and no proxy receives anything.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let (mut last, mut since, mut still) = (None, started, STILL);
        self.published().await?;
        while since.elapsed() < still {
            let operator = self.operator.counters(&[
                "smidge_publish_duration_seconds_count",
                "smidge_publish_duration_seconds_sum",
                "smidge_status_writes_total",
                "smidge_status_writes_pending",
            ])?;
            if let [count, sum, ..] = operator.as_slice() {
                // The operator pauses for twice the time of a publish, and then processes the changes that arrived in
                // between.
                still = STILL + Duration::from_secs_f64(4.0 * sum / count.max(1.0));
            }
            let totals = self.fleet.totals().await?;
            let waiting = operator.last().is_some_and(|waiting| *waiting > 0.0);
            let now = Some((operator, totals.messages, totals.open));
            if now != last || waiting {
                (last, since) = (now, Instant::now());
            }
            anyhow::ensure!(started.elapsed() < TIMEOUT, "after {TIMEOUT:?} there is no end to it: {last:?}");
            // Not more often: answering takes CPU of the operator, too.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until the operator has published a snapshot of what it has read; from then on it serves proxies.
    pub async fn published(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.operator.counters(&["smidge_publishes_total"])? == [0.0] {
            anyhow::ensure!(started.elapsed() < TIMEOUT, "nothing was published");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Connects the first `count` proxies.
    pub async fn connect(&self, count: usize) -> anyhow::Result<Connected> {
        let mut target = self.target.clone();
        // A thousand concurrently; of ten thousand, no more than that at a time, as pods do not start in one instant.
        target.window = 1000;
        self.fleet.connect(&target, count, TIMEOUT).await
    }

    /// Makes changes one after the other, each when the one before has arrived at every receiver.
    pub async fn changes(&mut self, row: &mut Row, mut change: Change) -> anyhow::Result<()> {
        let Settings { changes, budget, .. } = self.settings;
        for number in 0..WARM {
            self.change(&mut change, number).await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut last = Times::default();
        let (before, started) = (self.before().await?, Instant::now());
        while last.made() < changes && (last.made() < changes / 5 || started.elapsed() < budget) {
            last.add(self.change(&mut change, WARM + last.made()).await?);
        }
        let after = self.after().await?;
        let made = last.made();
        // The next measurement finds the object unchanged.
        if made % 2 == 1 {
            self.change(&mut change, WARM + made).await?;
        }
        row.set("changes", made as f64);
        row.set("receivers", change.receivers as f64);
        last.set(row);
        after.set(row, &before, made as f64);
        row.set("mb", row.get("wire_bytes").unwrap_or_default() / 1e6);
        eprintln!(
            "    {}: p50 {:.1} ms, p99 {:.1} ms, CPU {:.2} ms",
            row.id,
            row.get("last_p50_ms").unwrap_or_default(),
            row.get("last_p99_ms").unwrap_or_default(),
            row.get("cpu_ms").unwrap_or_default()
        );
        Ok(())
    }

    /// Builds the change of the readiness of a Service's first endpoint, back and forth.
    pub async fn readiness(&self, service: usize, receivers: usize) -> anyhow::Result<Change> {
        let (namespace, name) = (Shape::namespace(service), Shape::name(service));
        let watched = self.cluster.watch("EndpointSlice", &namespace, &format!("{name}-0")).await?;
        let (patches, carrier) = ([ready(0, false), ready(0, true)], format!("{namespace}/{name}/80"));
        Ok(Change { watched, patches, carrier: (Kind::Endpoints, carrier), receivers })
    }

    /// Makes one change, and waits for the operator's pause.
    async fn change(&self, change: &mut Change, number: usize) -> anyhow::Result<f64> {
        let last = self.once(change, number).await?;
        // An operator that needed long pauses for twice as long: the next change would wait for that, and not be
        // measured alone.
        let took = Duration::from_secs_f64(last.max(0.0) / 1000.0);
        tokio::time::sleep(QUIET + (took * 2).min(LONGEST_REST)).await;
        Ok(last)
    }

    /// Makes one change; returns the time from the API server's event until the last receiver had it, in milliseconds.
    pub async fn once(&self, change: &mut Change, number: usize) -> anyhow::Result<f64> {
        let Change { watched, patches, carrier: (kind, name), receivers } = change;
        let answer = self.fleet.expect(*kind, name, *receivers)?;
        let from = watched.change(patches.get(number % 2).context("no patch")?).await?;
        let times = tokio::time::timeout(TIMEOUT, answer).await;
        let times = times.with_context(|| format!("change {number} of {name} did not arrive"))??;
        Ok(millis(from, *times.last().context("no proxy received the change")?))
    }

    /// Measures the same change with the baseline server, which only writes. The proxies must be connected to it.
    pub async fn baseline(&mut self, row: &mut Row) -> anyhow::Result<()> {
        let figure = |name: &str| row.get(name).unwrap_or_default();
        let receivers = figure("receivers") as usize;
        // Proxies that receive something without seeing the change receive messages of the same size.
        let messages = (figure("messages").round() as usize).max(receivers);
        let bytes = (figure("message_bytes") / messages.max(1) as f64) as usize;
        let traffic = Traffic { messages, bytes, receivers };
        self.baseline.measure(&self.fleet, row, traffic, self.settings.changes).await?;
        row.divide("ratio_p50", "last_p50_ms", "baseline_p50_ms");
        row.divide("ratio_p99", "last_p99_ms", "baseline_p99_ms");
        row.divide("ratio_cpu", "cpu_ms", "baseline_cpu_ms");
        Ok(())
    }

    /// Reads the costs before a measurement: CPU last, so that reading the rest does not count.
    pub async fn before(&self) -> anyhow::Result<Costs> {
        let names = ["smidge_publishes_total", "smidge_xds_view_updates_total"];
        let (totals, counters) = (self.fleet.totals().await?, self.operator.counters(&names)?);
        let memory = process::memory(self.operator.pid());
        let [publishes, view_updates] = counters.as_slice() else { anyhow::bail!("no counters") };
        let (publishes, view_updates) = (*publishes, *view_updates);
        let (at, operator, client) = self.used();
        Ok(Costs { at, operator, client, totals, memory, publishes, view_updates })
    }

    /// Reads the costs after a measurement: CPU first.
    pub async fn after(&self) -> anyhow::Result<Costs> {
        let (at, operator, client) = self.used();
        Ok(Costs { at, operator, client, ..self.before().await? })
    }

    fn used(&self) -> (Instant, Duration, Duration) {
        (Instant::now(), self.operator.cpu(), process::own_cpu("fleet"))
    }
}

/// Builds the patch of an endpoint's readiness in a slice, which must have had the opposite value.
pub fn ready(endpoint: usize, is_ready: bool) -> Value {
    let path = format!("/endpoints/{endpoint}/conditions/ready");
    json!([
        {"op": "test", "path": path, "value": !is_ready},
        {"op": "replace", "path": path, "value": is_ready},
    ])
}

/// Returns the operator's addresses and the roots that proxies trust, as in every bootstrap.
async fn target(cluster: &Cluster, plan: &Plan) -> anyhow::Result<Target> {
    Ok(Target {
        addresses: tls::loopback(plan.xds()),
        tls: Arc::new(tls::client(&roots(cluster, "control-plane").await?)?),
        server_name: ServerName::try_from("smidge.smidge-system.svc").context("no name")?,
        script: None,
        window: usize::MAX,
    })
}

/// Returns the roots of one of the operator's authorities, in PEM.
pub async fn roots(cluster: &Cluster, authority: &str) -> anyhow::Result<Vec<String>> {
    let path = format!("{}/smidge-root-{authority}", cluster.path("Secret", "smidge-system")?);
    let secret = cluster.call(Method::GET, &path, None).await?;
    let data = secret.get("data").and_then(Value::as_object).context("a Secret without data")?;
    certificates(data)
}

/// Returns the certificates in the data of an authority's Secret, in PEM.
pub fn certificates(data: &serde_json::Map<String, Value>) -> anyhow::Result<Vec<String>> {
    let certificates = data.iter().filter(|(name, _)| ["active.crt", "standby.crt"].contains(&name.as_str()));
    let texts = certificates.map(|(_, value)| {
        let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default())?;
        anyhow::Ok(String::from_utf8(bytes)?)
    });
    texts.collect()
}
