//! One path from the client to the server: its pods, the programs in them, and one measurement of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::Value;

use super::{
    Args,
    load::Received,
    minimal, ours,
    pods::{PORT, Pods, Running, SERVICE, Side},
    tally::{self, Measure, Sample},
};

/// Path that no TrafficTarget of `mesh.yaml` allows.
const FORBIDDEN: &str = "/forbidden";
/// Time limit for everything of a path to start.
const START: Duration = Duration::from_secs(15);

/// Time during which a path that was just started is used before its answers count.
const WARM: &str = "--warm=0.4";

/// One path.
pub struct Way {
    pub name: String,
    pods: Pods,
    folder: PathBuf,
    envoy: PathBuf,
    /// Arguments of the client's and the server's proxy; none on the bare path.
    proxies: Vec<(Side, Vec<String>)>,
    /// Address that the client calls.
    to: String,
    /// True if the server's proxy enforces access.
    judges: bool,
    /// True if the proxies push statistics.
    counts: bool,
}

/// Programs and files that all paths share.
#[derive(Debug, Clone, Copy)]
pub struct Programs<'a> {
    /// Folder with the certificates, and of the paths.
    pub folder: &'a Path,
    pub envoy: &'a Path,
    /// Version of that Envoy.
    pub version: &'a str,
    pub smidge: &'a Path,
}

/// Processes that run while a path is measured: the server, and the proxies.
struct Up {
    /// Server, and what receives statistics; held for their drop.
    _others: Vec<Running>,
    proxies: Vec<(Side, Running)>,
}

/// Returns the version of an Envoy.
pub fn version(envoy: &Path) -> anyhow::Result<String> {
    let output = Command::new(envoy).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // "PATH  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL"
    let version = text.split_once("version: ").and_then(|(_, build)| build.split('/').nth(1));
    version.map(str::to_owned).with_context(|| format!("no version in {text:?}"))
}

/// Mounts a program where every user can read it: home folders are closed to most.
pub fn mount(program: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let at = folder.join("envoy");
    fs::write(&at, "")?;
    let status = Command::new("mount").arg("--bind").arg(program).arg(&at).status()?;
    anyhow::ensure!(status.success(), "failed to mount {}", program.display());
    Ok(at)
}

impl Way {
    /// Creates a path without proxy and redirection.
    pub fn bare(folder: &Path) -> anyhow::Result<Self> {
        let way = Self::make(tally::BARE, folder, Path::new(""))?;
        Ok(Self { to: format!("{}:{PORT}", Side::Server.address()), ..way })
    }

    /// Creates the path with the minimal configuration of two Envoys.
    pub fn minimal(name: &str, programs: &Programs<'_>) -> anyhow::Result<Self> {
        let Programs { folder, envoy, smidge, version } = *programs;
        let mut way = Self::make(name, folder, envoy)?;
        way.pods.redirect(smidge)?;
        // The arguments that the injector gives the sidecar, so that both have the same threads.
        let places = ours::Places { smidge, version, keys: folder, folder: way.folder.clone() };
        for side in Side::BOTH {
            let args = ours::proxy(side, &places, &[])?.args;
            way.add(side, &minimal::bootstrap(side, folder), args)?;
        }
        Ok(way)
    }

    /// Creates the path with the configuration that Smidge serves, without some parts.
    pub fn ours(name: &str, programs: &Programs<'_>, without: &[String]) -> anyhow::Result<Self> {
        let Programs { folder, envoy, smidge, version } = *programs;
        let mut way = Self::make(name, folder, envoy)?;
        way.pods.redirect(smidge)?;
        for side in Side::BOTH {
            let places = ours::Places { smidge, version, keys: folder, folder: way.folder.join(side.name()) };
            let ours::Proxy { config, args } = ours::proxy(side, &places, without)?;
            way.add(side, &config, args)?;
        }
        way.judges = !without.iter().any(|part| part.starts_with("inbound/"));
        way.counts = !without.iter().any(|part| part == ours::STATISTICS);
        Ok(way)
    }

    fn make(name: &str, parent: &Path, envoy: &Path) -> anyhow::Result<Self> {
        // Namespaces and folders have numbers as names, as parts of ours may have any name.
        let number = fs::read_dir(parent)?.count();
        let folder = parent.join(format!("path-{number}"));
        fs::create_dir(&folder)?;
        let pods = Pods::make(&format!("p{number}"))?;
        let (name, to, envoy) = (name.to_owned(), SERVICE.to_owned(), envoy.to_owned());
        Ok(Self { name, pods, folder, envoy, proxies: Vec::new(), to, judges: false, counts: false })
    }

    fn add(&mut self, side: Side, config: &Value, mut args: Vec<String>) -> anyhow::Result<()> {
        let file = self.folder.join(format!("{}-envoy.json", side.name()));
        fs::write(&file, config.to_string())?;
        args.extend(["--config-path".to_owned(), file.display().to_string()]);
        self.proxies.push((side, args));
        Ok(())
    }

    /// Starts the path, measures it at a rate and at its limit, and ends it. It is started anew each time, as
    /// connections are assigned to threads by chance and stay there; no other path runs meanwhile.
    pub fn measure(&self, args: &Args) -> anyhow::Result<Sample> {
        let mut up = self.start()?;
        self.ready(args, &mut up)?;
        let steady = self.sample(args, &up, args.rate, args.seconds)?;
        let full = (args.saturated > 0.0).then(|| self.sample(args, &up, 0, args.saturated)).transpose()?;
        Ok(Sample { steady, full })
    }

    fn start(&self) -> anyhow::Result<Up> {
        let mut command = self.pods.command(Side::Server, &std::env::current_exe()?);
        command.args(["sidecars", "server", &format!("0.0.0.0:{PORT}")]);
        let mut others = vec![Running::start(command, &self.folder.join("server.log"))?];
        for side in Side::BOTH.into_iter().filter(|_| self.counts) {
            let mut command = self.pods.command(side, &std::env::current_exe()?);
            command.args(["sidecars", "reports"]);
            let log = self.folder.join(format!("{}-reports.log", side.name()));
            others.push(Running::start(command, &log)?);
        }
        let proxies = self.proxies.iter().map(|(side, args)| {
            let mut command = self.pods.proxy(*side, &self.envoy);
            command.args(args);
            Ok((*side, Running::start(command, &self.log(*side))?))
        });
        Ok(Up { _others: others, proxies: proxies.collect::<anyhow::Result<_>>()? })
    }

    fn log(&self, side: Side) -> PathBuf {
        self.folder.join(format!("{}-envoy.log", side.name()))
    }

    /// Waits until a request is answered, and checks that a forbidden one is refused.
    fn ready(&self, args: &Args, up: &mut Up) -> anyhow::Result<()> {
        let started = Instant::now();
        while let Err(error) = self.send(args, &["--rate=20", "--seconds=0.1", "--warm=0"]) {
            let ended = up.proxies.iter_mut().any(|(_, proxy)| proxy.has_ended().unwrap_or(true));
            if ended || started.elapsed() > START {
                let log = |side| fs::read_to_string(self.log(side)).unwrap_or_default();
                let logs = Side::BOTH.map(|side| format!("log of the {}:\n{}", side.name(), log(side)));
                return Err(error).with_context(|| format!("{}: {}", self.name, logs.join("\n")));
            }
        }
        if self.judges {
            let refused = ["--rate=20", "--seconds=0.1", "--warm=0", "--expect=403", "--path", FORBIDDEN];
            self.send(args, &refused).with_context(|| format!("{}: nothing is refused", self.name))?;
        }
        Ok(())
    }

    /// Measures for a time; a rate of 0 is the maximum rate.
    fn sample(&self, args: &Args, up: &Up, rate: u32, seconds: f64) -> anyhow::Result<Measure> {
        let before = up.cpu();
        let (rate, seconds) = (format!("--rate={rate}"), format!("--seconds={seconds}"));
        let received = self.send(args, &[&rate, &seconds, WARM]);
        let received = received.with_context(|| format!("{}: a measurement failed", self.name))?;
        Ok(Measure {
            per_second: received.answers as f64 / received.seconds,
            proxies_cpu: (up.cpu() - before) / received.all as f64,
            times: received.times,
        })
    }

    fn send(&self, args: &Args, words: &[&str]) -> anyhow::Result<Received> {
        let mut command = self.pods.command(Side::Client, &std::env::current_exe()?);
        command.args(["sidecars", "load", "--to", &self.to]).args(words);
        let output = command.arg(format!("--connections={}", args.connections)).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.success(), "the client failed: {}", stderr.trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Up {
    /// Returns the CPU time that the proxies have used, in microseconds.
    fn cpu(&self) -> f64 {
        self.proxies.iter().map(|(_, proxy)| proxy.cpu()).sum()
    }
}
