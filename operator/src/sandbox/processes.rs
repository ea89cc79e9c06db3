//! Turns a plan into what runs in its namespaces: the control plane, and an Envoy and a server for each workload.
//!
//! All of them are this program or a stock Envoy. They end with the namespaces. Decides nothing about the mesh.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::park_timeout,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    namespaces::{FOLDER, Namespaces, child_of, network_of},
    plan::{CONTROL_PLANE, Workload},
    prepare::{PROXY, Preparation, prepare},
};

/// Port of the control plane.
const PORT: u16 = 15012;
/// Time limit of the start.
const START: Duration = Duration::from_mins(1);
/// Interval between two looks at what is awaited.
const LOOK: Duration = Duration::from_millis(30);

/// Programs of a sandbox.
#[derive(Debug, Clone)]
pub struct Programs {
    /// This program.
    pub smidge: PathBuf,
    /// A stock Envoy.
    pub envoy: PathBuf,
    /// Folders in which all others are looked up.
    pub path: OsString,
}

/// Error of starting the processes.
#[derive(Debug, thiserror::Error)]
pub enum ProcessesError {
    /// A process could not be started, or a file not be written.
    #[error("failed to start {what}")]
    Start {
        /// Name of what is started.
        what: String,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A workload could not be prepared.
    #[error("failed to prepare {workload}: {output}")]
    Prepare {
        /// The workload.
        workload: String,
        /// Output of the commands.
        output: String,
    },
    /// Something has not started in time.
    #[error("not ready within {} s: {what}; its last lines: {log}", START.as_secs())]
    NotReady {
        /// Name of what is awaited.
        what: String,
        /// End of its log.
        log: String,
    },
}

/// The processes of a sandbox.
#[derive(Debug, Default)]
pub struct Processes {
    children: Vec<Child>,
    /// The processes that entered the namespaces for an Envoy each, by full name of the workload.
    proxies: Vec<(String, u32)>,
}

/// Memory of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Full name of the workload.
    pub workload: String,
    /// Resident memory in KiB; none if the proxy has ended.
    pub resident: Option<u64>,
}

impl Processes {
    /// Starts everything, and returns once every proxy has its configuration. What was started is in `self` also after
    /// an error.
    pub fn start(
        &mut self,
        namespaces: &Namespaces,
        programs: &Programs,
        workloads: &[Workload],
    ) -> Result<(), ProcessesError> {
        let launcher = Launcher { namespaces, programs };
        let mut control_plane = namespaces.command(&programs.smidge);
        control_plane
            .args(["run", "--dir", &format!("{FOLDER}/mesh"), "--state", &format!("{FOLDER}/state")])
            .args(["--xds-listen", &format!("{CONTROL_PLANE}:{PORT}")]);
        self.children.push(launcher.background("control-plane", control_plane)?);
        launcher.until("the control plane", "control-plane", || launcher.proxies().is_some())?;
        for workload in workloads {
            launcher.prepare(workload)?;
            let name = workload.full_name();
            let proxy =
                launcher.background(&format!("{}.envoy", network_of(workload)), launcher.envoy(workload))?;
            self.proxies.push((name.clone(), proxy.id()));
            self.children.push(proxy);
            let mut server = namespaces.command_of(workload, &programs.smidge);
            server.args(["sandbox-part", "echo", &name]);
            server.args(workload.listens.iter().map(ToString::to_string));
            self.children.push(launcher.background(&network_of(workload), server)?);
        }
        let expected = workloads.len();
        let log = workloads.first().map(|it| format!("{}.envoy", network_of(it))).unwrap_or_default();
        launcher.until("the proxies", &log, || {
            launcher.proxies().is_some_and(|it| it.len() == expected && it.iter().all(is_settled))
        })?;
        launcher.until("the ports of the proxies", &log, || {
            let mut command = namespaces.command(&programs.smidge);
            command.args(["sandbox-part", "ready"]);
            command.args(workloads.iter().map(|it| it.address.to_string()));
            finished(&mut command).is_ok_and(|output| output.status.success())
        })
    }

    /// Returns the memory of each proxy.
    pub fn memory(&self) -> Vec<Memory> {
        self.proxies
            .iter()
            .map(|(workload, entered)| {
                let resident = child_of(*entered).and_then(resident);
                Memory { workload: workload.clone(), resident }
            })
            .collect()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended with the namespaces.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn is_settled(proxy: &Value) -> bool {
    proxy.get("settled").and_then(Value::as_bool) == Some(true)
}

fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Runs a command to its end, without input.
fn finished(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

struct Launcher<'a> {
    namespaces: &'a Namespaces,
    programs: &'a Programs,
}

impl Launcher<'_> {
    /// Starts a process that runs on, with a log.
    fn background(&self, log: &str, mut command: Command) -> Result<Child, ProcessesError> {
        let started = || {
            let file = File::create(self.log(log))?;
            let copy = file.try_clone()?;
            command.stdin(Stdio::null()).stdout(file).stderr(copy).spawn()
        };
        let mut started = started;
        started().map_err(|source| ProcessesError::Start { what: log.to_owned(), source })
    }

    fn log(&self, name: &str) -> PathBuf {
        self.namespaces.folder().join("log").join(name)
    }

    fn prepare(&self, workload: &Workload) -> Result<(), ProcessesError> {
        let name = workload.full_name();
        let preparation = Preparation {
            network: network_of(workload),
            machine: name.clone(),
            address: workload.address,
            folder: credentials(workload).into(),
            state: format!("{FOLDER}/state").into(),
            control_plane: format!("{CONTROL_PLANE}:{PORT}"),
            one_user: !self.namespaces.is_root(),
        };
        let shell = self.namespaces.command("sh");
        let output = prepare(shell, self.programs.smidge.as_os_str(), &preparation)
            .map_err(|source| ProcessesError::Start { what: format!("the proxy of {name}"), source })?;
        if output.status.success() {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(ProcessesError::Prepare { workload: name, output })
    }

    fn envoy(&self, workload: &Workload) -> Command {
        let mut command = if self.namespaces.is_root() {
            let mut command = self.namespaces.command_of(workload, "setpriv");
            command
                .args(["--reuid", PROXY, "--regid", PROXY, "--clear-groups", "--"])
                .arg(&self.programs.envoy);
            command
        } else {
            self.namespaces.command_of(workload, &self.programs.envoy)
        };
        command.args(["--config-path", &format!("{}/envoy.json", credentials(workload))]).args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ]);
        command
    }

    /// Returns what the control plane reports of its proxies; `None` while it does not answer.
    fn proxies(&self) -> Option<Vec<Value>> {
        let mut command = self.namespaces.command(&self.programs.smidge);
        command.args(["status", "--state", &format!("{FOLDER}/state"), "--output", "json"]);
        let output = finished(&mut command).ok()?;
        let report: Value = serde_json::from_slice(&output.stdout).ok()?;
        report.get("proxies")?.as_array().cloned()
    }

    fn until(&self, what: &str, log: &str, is_ready: impl Fn() -> bool) -> Result<(), ProcessesError> {
        let end = Instant::now() + START;
        while !is_ready() {
            if Instant::now() > end {
                let log = tail(&self.log(log));
                return Err(ProcessesError::NotReady { what: what.to_owned(), log });
            }
            // Nothing unparks it, so this is the interval.
            park_timeout(LOOK);
        }
        Ok(())
    }
}

fn credentials(workload: &Workload) -> String {
    format!("{FOLDER}/machines/{}", network_of(workload))
}

/// Returns the last lines of a log.
fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
