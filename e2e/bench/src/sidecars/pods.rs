//! Simulates two pods as two network namespaces with a virtual link between them, and runs programs in them.
//!
//! Everything is created inside namespaces of this process alone (`isolate`): it is invisible to the rest of the
//! machine, and is removed with the process. The redirection is the product's own, applied by `smidge redirect` as in
//! an init container.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

use crate::process;

/// Environment variable that is set in the process with its own namespaces.
const INSIDE: &str = "SMIDGE_SIDECARS_INSIDE";
/// Port of the server, in either pod.
pub const PORT: u16 = 8080;
/// Address of the Service that the client calls. No pod has it: without redirection it does not exist.
pub const SERVICE: &str = "10.9.9.9:80";
/// User whose traffic is not redirected.
const PROXY_USER: &str = "1337";

/// One end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Client,
    Server,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// Returns the address of its pod, as `mesh.yaml` has it.
    pub fn address(self) -> &'static str {
        match self {
            Self::Client => "10.9.0.2",
            Self::Server => "10.9.0.3",
        }
    }
}

/// Continues in network and mount namespaces of its own: runs this program again in them, in place of this process.
pub fn isolate() -> anyhow::Result<()> {
    if std::env::var_os(INSIDE).is_none() {
        let program = std::env::current_exe()?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--"]).arg(program).args(std::env::args_os().skip(1));
        return Err(command.env(INSIDE, "1").exec()).context("failed to run unshare");
    }
    // Names of network namespaces are files below /run; this mount hides them from other processes.
    shell("mount --make-rprivate / && mount -t tmpfs tmpfs /run && ip link set lo up")
}

/// Pods of a client and a server, connected to each other and to nothing else.
#[derive(Debug, Clone)]
pub struct Pods(String);

impl Pods {
    /// Creates the pods of a path.
    pub fn make(path: &str) -> anyhow::Result<Self> {
        let pods = Self(path.to_owned());
        let [client, server] = Side::BOTH.map(|side| pods.namespace(side));
        shell(&format!(
            "ip netns add {client} && ip netns add {server} &&
             ip link add eth0 netns {client} type veth peer name eth0 netns {server}"
        ))?;
        for (side, other) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
            let (namespace, own, other) = (pods.namespace(side), side.address(), other.address());
            shell(&format!(
                "ip -n {namespace} link set lo up && ip -n {namespace} address add {own}/24 dev eth0 &&
                 ip -n {namespace} link set eth0 up && ip -n {namespace} route add default via {other}"
            ))?;
        }
        Ok(pods)
    }

    fn namespace(&self, side: Side) -> String {
        format!("{}-{}", self.0, side.name())
    }

    /// Redirects the traffic of both, as the init container of an injected pod does.
    pub fn redirect(&self, smidge: &Path) -> anyhow::Result<()> {
        for side in Side::BOTH {
            let output = self.command(side, smidge).arg("redirect").output()?;
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            anyhow::ensure!(output.status.success(), "smidge redirect failed: {stderr}");
        }
        Ok(())
    }

    /// Returns the command of a program in a pod, as the application.
    pub fn command(&self, side: Side, program: &Path) -> Command {
        let mut command = self.inside(side, &["setpriv", "--pdeathsig", "KILL"]);
        command.arg(program);
        command
    }

    /// Returns the command of a program in a pod, as the proxy.
    pub fn proxy(&self, side: Side, program: &Path) -> Command {
        let user = ["--reuid", PROXY_USER, "--regid", PROXY_USER, "--clear-groups"];
        let mut command = self.inside(side, &["setpriv"]);
        command.args(user).args(["--pdeathsig", "KILL"]).arg(program);
        command
    }

    fn inside(&self, side: Side, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(side)]).args(words).stdin(Stdio::null());
        command
    }
}

/// Program that ends with this value.
pub struct Running(Child);

impl Running {
    /// Starts it; its output goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log)?;
        let child = command.stdout(file.try_clone()?).stderr(file).spawn();
        Ok(Self(child.with_context(|| format!("failed to start {command:?}"))?))
    }

    /// Returns the CPU time that it has used, in microseconds.
    pub fn cpu(&self) -> f64 {
        process::cpu(self.0.id()).as_secs_f64() * 1e6
    }

    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn shell(script: &str) -> anyhow::Result<()> {
    let output = Command::new("sh").args(["-ec", script]).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{script}: {stderr}");
    Ok(())
}
