//! Turns a plan into namespaces: one of processes and mounts around all of it, and a network for each workload.
//!
//! Runs `unshare`, `nsenter`, `ip` and `mount`. The quickstart makes its networks by `network`, too. The first process ends when the pipe from this process closes, however
//! this process ends, and everything in the namespaces ends with it; their files are in their memory. For users other
//! than root there is a user namespace around it. Starts nothing of the mesh.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    net::Ipv4Addr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::plan::{CONTROL_PLANE, Workload};

/// Folder of the sandbox, as seen in its namespaces.
pub const FOLDER: &str = "/run/smidge";

const NETWORK: &str = r#"set -eu
PATH=$PATH:/usr/sbin:/sbin
control_plane=$1
shift
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/smidge/mesh /run/smidge/machines /run/smidge/log /run/smidge/hosts
: >/run/smidge/resolv.conf
ip link set lo up
ip link add bridge type bridge forward_delay 0
ip address add "$control_plane/24" dev bridge
ip link set bridge up
# What has no endpoint is refused at once, as in a cluster.
echo 1 >/proc/sys/net/ipv4/ip_forward
ip route add unreachable default
while [ $# -gt 0 ]; do
    name=$1 address=$2
    shift 2
    ip netns add "$name"
    ip link add "v$name" type veth peer name eth0 netns "$name"
    ip link set "v$name" master bridge up
    ip -netns "$name" link set lo up
    ip -netns "$name" address add "$address/24" dev eth0
    ip -netns "$name" link set eth0 up
    ip -netns "$name" route add default via "$control_plane"
done
"#;

/// Error of making the namespaces.
#[derive(Debug, thiserror::Error)]
pub enum NamespacesError {
    /// A program could not be run.
    #[error("failed to run {program} (hint: install {package})")]
    Run {
        /// The program.
        program: &'static str,
        /// Package that usually has it.
        package: &'static str,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The user may not make namespaces.
    #[error(
        "failed to make namespaces: {output} (hint: run it as root, or allow user namespaces: sysctl \
         kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0)"
    )]
    Refused {
        /// Output of `unshare`.
        output: String,
    },
    /// The network could not be made.
    #[error(
        "failed to make the network of the sandbox: {output} (hint: it needs `ip` of iproute2 and `mount`)"
    )]
    Network {
        /// Output of the commands.
        output: String,
    },
}

/// The namespaces of a sandbox. They end with this value.
#[derive(Debug)]
pub struct Namespaces {
    launcher: Child,
    holder: u32,
    is_root: bool,
    path: OsString,
}

impl Namespaces {
    /// Makes the namespaces, with a network for each workload. Programs are looked up in `path`.
    pub fn open(workloads: &[Workload], path: OsString) -> Result<Self, NamespacesError> {
        let is_root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
            .args(["sh", "-c", "echo ready; exec cat >/dev/null"])
            .env("PATH", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let failed = |source| NamespacesError::Run { program: "unshare", package: "util-linux", source };
        let launcher = command.spawn().map_err(failed)?;
        let mut namespaces = Self { launcher, holder: 0, is_root, path };
        namespaces.find_holder().map_err(failed)?;
        namespaces.make_network(workloads)?;
        Ok(namespaces)
    }

    /// Waits for the first process, and finds its number.
    fn find_holder(&mut self) -> io::Result<()> {
        let mut line = String::new();
        if let Some(stdout) = self.launcher.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line == "ready\n"
            && let Some(holder) = child_of(self.launcher.id())
        {
            self.holder = holder;
        }
        Ok(())
    }

    fn make_network(&mut self, workloads: &[Workload]) -> Result<(), NamespacesError> {
        if self.holder == 0 {
            let mut output = String::new();
            if let Some(stderr) = self.launcher.stderr.take() {
                // It has ended, or has nothing more to report.
                let _ = self.launcher.kill();
                let _ = stderr.take(4096).read_to_string(&mut output);
            }
            return Err(NamespacesError::Refused { output: output.trim().to_owned() });
        }
        let machines = workloads.iter().map(|workload| (network_of(workload), workload.address));
        network(self.command("sh"), CONTROL_PLANE, machines)
    }

    /// Returns true if the user is root, so that processes may have other users.
    pub fn is_root(&self) -> bool {
        self.is_root
    }

    /// Returns a command that runs a program in the namespaces, in the network of the control plane. It has no variables
    /// of the environment but `PATH`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.entered();
        command.arg(program).env_clear().env("PATH", &self.path);
        command
    }

    /// Returns a command that runs a program in the network of a workload.
    pub fn command_of(&self, workload: &Workload, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command("nsenter");
        command.arg(format!("--net=/run/netns/{}", network_of(workload))).arg("--").arg(program);
        command
    }

    /// Returns a command that enters the namespaces and has no program yet.
    pub fn entered(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.to_string()]);
        if !self.is_root {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--net", "--mount", "--pid", "--"]).env("PATH", &self.path);
        command
    }

    /// Returns the path of the sandbox's folder as seen by this process.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{FOLDER}", self.holder))
    }
}

/// Makes the networks by commands of `shell`, which is in a network and a mount namespace of its own: a bridge, which has
/// the address of the control plane, and a network for each machine, by name and address.
pub fn network(
    mut shell: Command,
    control_plane: Ipv4Addr,
    machines: impl Iterator<Item = (String, Ipv4Addr)>,
) -> Result<(), NamespacesError> {
    shell.args(["-c", NETWORK, "sh", &control_plane.to_string()]);
    for (name, address) in machines {
        shell.args([name, address.to_string()]);
    }
    let failed = |source| NamespacesError::Run { program: "sh or nsenter", package: "util-linux", source };
    let output = shell.stdin(Stdio::null()).output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(NamespacesError::Network { output: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // The first process ends when the pipe closes; the kernel ends all others before it is gone.
        drop(self.launcher.stdin.take());
        let _ = self.launcher.wait();
    }
}

/// Returns the name of the network of a workload.
pub fn network_of(workload: &Workload) -> String {
    format!("w{}", workload.number())
}

/// Returns the number of the child of a process.
pub fn child_of(parent: u32) -> Option<u32> {
    let line = format!("PPid:\t{parent}");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        status.lines().any(|it| it == line).then_some(number)
    })
}
