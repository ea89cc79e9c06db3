//! Measures the effect of attacks on the operator's ports: the latency of a change, the answers to probes, and the
//! operator's memory.
//!
//! `smidge-bench hostile` calls it. Each attack is a separate program with the lowest CPU priority: in a real cluster
//! it would run on another machine. `smidge_testing::attack` describes the attacks.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use smidge_testing::{
    attack::{Attack, Target},
    webhook::Webhook,
};

use crate::{
    bench::{Bench, roots},
    fairness::Marker,
    figures::{Row, in_millis, quantile},
    process,
    results::Results,
    scenario::mb,
};

/// Source address of the attacks.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 8, 1);
/// Time limit of a probe, as the kubelet's default, and interval between probes, which is shorter than the kubelet's.
const PROBE: Duration = Duration::from_secs(1);
const PROBES: Duration = Duration::from_millis(500);

/// Arguments of an attack.
#[derive(Debug, clap::Args)]
pub struct AttackArgs {
    /// Kind of the attack.
    #[arg(long)]
    kind: String,
    /// Address of the webhooks.
    #[arg(long)]
    webhook: SocketAddr,
    /// Address of the pages.
    #[arg(long)]
    pages: SocketAddr,
    /// File with the roots of the webhooks' certificate, in PEM.
    #[arg(long)]
    roots: PathBuf,
}

/// Attacks until the process is killed.
pub async fn attack(args: AttackArgs) -> anyhow::Result<()> {
    let kind = Attack::named(&args.kind).with_context(|| format!("no attack is called {}", args.kind))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&fs::read(&args.roots)?) {
        roots.add(certificate.ok().context("a root that is no PEM")?)?;
    }
    let webhook = Webhook::new(args.webhook, roots);
    kind.start(&Target { webhook, pages: args.pages, from: STRANGER }).join_all().await;
    Ok(())
}

/// Measures a change for a while without an attack, and then under each of them.
pub async fn all(
    bench: &mut Bench,
    proxies: usize,
    seconds: Duration,
    results: &mut Results,
) -> anyhow::Result<()> {
    bench.restart().await?;
    bench.connect(proxies).await?;
    bench.settle().await?;
    let file = bench.plan.log.with_extension("roots.pem");
    fs::write(&file, roots(&bench.cluster, "webhooks").await?.concat())?;
    let mut marker = Marker::new(bench, proxies).await?;
    let warm = Instant::now();
    marker.until(bench, |_| warm.elapsed() > Duration::from_secs(2)).await?;
    let quiet = under(bench, &mut marker, "quiet", seconds).await?;
    let before = quiet.get("last_p99_ms").unwrap_or_default();
    results.add(quiet)?;
    for kind in Attack::WEBHOOKS.into_iter().chain(Attack::PAGES) {
        let attack = Stranger::start(bench, kind, &file)?;
        let mut row = under(bench, &mut marker, &kind.to_string(), seconds).await?;
        drop(attack);
        row.set("ratio_p99", row.get("last_p99_ms").unwrap_or_default() / before.max(0.001));
        results.add(row)?;
        bench.settle().await?;
    }
    marker.restore(bench).await
}

async fn under(bench: &Bench, marker: &mut Marker, what: &str, seconds: Duration) -> anyhow::Result<Row> {
    let pid = bench.operator.pid();
    process::forget_peak(pid)?;
    let cpu = bench.operator.cpu();
    let probes = Probes::start(bench.plan.pages())?;
    let started = Instant::now();
    let times = marker.until(bench, |_| started.elapsed() > seconds).await?;
    let mut row = marker.row(&format!("hostile-{what}"), &format!(", {what}"), &times);
    let (answers, failed) = probes.end()?;
    row.set("probes", (answers.len() + failed) as f64);
    row.set("probes_failed", failed as f64);
    row.quantiles("probe", &answers);
    let memory = process::memory(pid);
    row.set("peak_mb", mb(memory.peak));
    row.set("resident_mb", mb(memory.resident));
    let used = bench.operator.cpu().saturating_sub(cpu);
    row.set("cores", used.as_secs_f64() / started.elapsed().as_secs_f64());
    eprintln!(
        "    peak {:.0} MB, {:.2} cores, {failed} of {} probes failed, the slowest took {:.0} ms",
        mb(memory.peak),
        row.get("cores").unwrap_or_default(),
        answers.len() + failed,
        quantile(&answers, 1.0)
    );
    Ok(row)
}

/// Program that attacks. Ends with this value.
struct Stranger(Child);

impl Stranger {
    fn start(bench: &Bench, kind: Attack, roots: &PathBuf) -> anyhow::Result<Self> {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "nice", "-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["attack", "--kind", &kind.to_string()])
            .arg(format!("--webhook={}", bench.plan.webhook()))
            .arg(format!("--pages={}", bench.plan.pages()))
            .arg("--roots")
            .arg(roots)
            .stdin(Stdio::null())
            .spawn();
        Ok(Self(child.context("failed to start an attack")?))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Probes, as the kubelet sends them.
struct Probes {
    /// Sender whose drop ends the thread.
    ends: mpsc::Sender<()>,
    thread: JoinHandle<(Vec<f64>, usize)>,
}

impl Probes {
    fn start(pages: SocketAddr) -> anyhow::Result<Self> {
        let (ends, ended) = mpsc::channel();
        let probe = move || {
            let (mut answers, mut failed) = (Vec::new(), 0);
            while ended.recv_timeout(PROBES) == Err(mpsc::RecvTimeoutError::Timeout) {
                for path in ["/livez", "/readyz"] {
                    let started = Instant::now();
                    match process::page(pages, path, PROBE) {
                        Ok(page) if page.split(' ').nth(1) == Some("200") && started.elapsed() < PROBE => {
                            answers.push(in_millis(started.elapsed()));
                        }
                        _ => failed += 1,
                    }
                }
            }
            (answers, failed)
        };
        let thread = std::thread::Builder::new().name("probes".to_owned()).spawn(probe)?;
        Ok(Self { ends, thread })
    }

    /// Returns the times of the answers in milliseconds, and the number of probes that failed.
    fn end(self) -> anyhow::Result<(Vec<f64>, usize)> {
        drop(self.ends);
        self.thread.join().map_err(|_| anyhow::anyhow!("the probes have ended early"))
    }
}
