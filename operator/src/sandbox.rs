//! A sandbox: turns manifests into a running mesh on this machine, in which commands and calls run as any workload.
//!
//! `plan` decides what runs, `namespaces` makes its networks, `processes` starts the control plane and the proxies with what
//! `prepare` makes for each, `echo` answers in place of applications, `call` makes calls, `expectations` judges them, and `follow` passes edits on. Called
//! by `cli`. Leaves nothing behind: everything is in namespaces that end with it. Does not explain policy.

pub mod call;
pub mod echo;
pub mod expectations;
pub mod follow;
pub mod namespaces;
pub mod plan;
pub mod prepare;
pub mod processes;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    net::IpAddr,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
};

use self::{
    call::{Calls, Outcome},
    follow::{FollowError, Manifests, Served},
    namespaces::{FOLDER, Namespaces, NamespacesError, network_of},
    plan::{Plan, PlanError, Workload},
    processes::{Memory, Processes, ProcessesError, Programs},
};

/// Runs a command with the names of Services, in the network and the folder of a caller.
const AS_WORKLOAD: &str = r#"hosts=$1 network=$2 folder=$3
shift 3
mount --bind "$hosts" /etc/hosts
mount --bind /run/smidge/resolv.conf /etc/resolv.conf 2>/dev/null
cd "$folder" 2>/dev/null
exec nsenter --net="/run/netns/$network" -- "$@"
"#;

/// Errors of a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The manifests have no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The namespaces could not be made.
    #[error(transparent)]
    Namespaces(#[from] NamespacesError),
    /// The processes could not be started.
    #[error(transparent)]
    Processes(#[from] ProcessesError),
    /// The manifests could not be served.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// No workload has the name.
    #[error("there is no workload {name:?}; there is {}", near.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// Names of workloads.
        near: Vec<String>,
    },
    /// Several workloads have the name.
    #[error("{name:?} may be {}", all.join(" or "))]
    Ambiguous {
        /// The name.
        name: String,
        /// Full names of the workloads.
        all: Vec<String>,
    },
    /// The destination has no address.
    #[error(
        "{name:?} is no Service with an address: expected NAMESPACE/NAME (hint: workloads are called by a Service)"
    )]
    NoAddress {
        /// The destination.
        name: String,
    },
    /// A command could not be run.
    #[error("failed to run a command as {workload}")]
    Run {
        /// The workload.
        workload: String,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The client that makes calls has failed.
    #[error("the calls of {workload} failed: {problem}")]
    Calls {
        /// The workload.
        workload: String,
        /// Its output.
        problem: String,
    },
}

/// A running sandbox. It ends with this value, and with this process.
#[derive(Debug)]
pub struct Sandbox {
    // In the order in which they end.
    namespaces: Namespaces,
    processes: Processes,
    programs: Programs,
    workloads: Vec<Workload>,
    served: Arc<Served>,
    _follow: mpsc::Sender<()>,
}

impl Sandbox {
    /// Starts a sandbox; `report` receives what the user should know of later edits.
    pub fn start(
        manifests: Manifests,
        plan: Plan,
        programs: Programs,
        report: impl FnMut(String) + Send + 'static,
    ) -> Result<Self, SandboxError> {
        let workloads = plan.workloads.clone();
        let namespaces = Namespaces::open(&workloads, programs.path.clone())?;
        let served = Arc::new(Served::write(manifests, plan, namespaces.folder())?);
        let mut processes = Processes::default();
        if let Err(error) = processes.start(&namespaces, &programs, &workloads) {
            // Before the processes are waited for.
            drop(namespaces);
            return Err(error.into());
        }
        let (follow, end) = mpsc::channel();
        let follower = Arc::clone(&served);
        std::thread::spawn(move || follower.follow(&end, report));
        Ok(Self { namespaces, processes, programs, workloads, served, _follow: follow })
    }

    /// Returns what is served.
    pub fn served(&self) -> &Served {
        &self.served
    }

    /// Returns the workloads that run.
    pub fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    /// Returns the memory of each proxy.
    pub fn memory(&self) -> Vec<Memory> {
        self.processes.memory()
    }

    /// Finds a workload by NAMESPACE/WORKLOAD, or by its name if only one has it.
    pub fn workload(&self, name: &str) -> Result<&Workload, SandboxError> {
        let found: Vec<&Workload> =
            self.workloads.iter().filter(|it| it.full_name() == name || it.name == name).collect();
        match found.as_slice() {
            [one] => Ok(one),
            [] => {
                let near = self.workloads.iter().map(Workload::full_name).collect();
                Err(SandboxError::Unknown { name: name.to_owned(), near })
            }
            several => {
                let all = several.iter().map(|it| it.full_name()).collect();
                Err(SandboxError::Ambiguous { name: name.to_owned(), all })
            }
        }
    }

    /// Returns the address of a Service, NAMESPACE/NAME.
    pub fn address(&self, to: &str) -> Result<IpAddr, SandboxError> {
        let missing = || SandboxError::NoAddress { name: to.to_owned() };
        let (namespace, name) = to.split_once('/').ok_or_else(missing)?;
        let services = self.served.plan().services;
        let key = (namespace.to_owned(), name.to_owned());
        services.get(&key).and_then(|all| all.first()).copied().ok_or_else(missing)
    }

    /// Runs a command as a workload, with the input and output of this process.
    pub fn run(
        &self,
        from: &Workload,
        command: &[OsString],
        folder: &Path,
    ) -> Result<ExitStatus, SandboxError> {
        let mut entered = self.namespaces.entered();
        entered.args(["unshare", "--mount", "--", "sh", "-c", AS_WORKLOAD, "sh"]);
        entered.arg(format!("{FOLDER}/hosts/{}", from.namespace)).arg(network_of(from)).arg(folder);
        entered.args(command);
        entered.status().map_err(|source| SandboxError::Run { workload: from.full_name(), source })
    }

    /// Makes calls as a workload.
    pub fn call(&self, from: &Workload, calls: &Calls) -> Result<Outcome, SandboxError> {
        let failed = |source| SandboxError::Run { workload: from.full_name(), source };
        let mut command: Command = self.namespaces.command_of(from, &self.programs.smidge);
        command.args(["sandbox-part", "call"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            let text = serde_json::to_vec(calls).map_err(|error| failed(error.into()))?;
            stdin.write_all(&text).map_err(failed)?;
        }
        let output = child.wait_with_output().map_err(failed)?;
        serde_json::from_slice(&output.stdout).map_err(|_| SandboxError::Calls {
            workload: from.full_name(),
            problem: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}
