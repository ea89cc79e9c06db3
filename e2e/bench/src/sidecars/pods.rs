//! Two pods as two network namespaces with a wire between them, and programs that run in them.
//!
//! Everything is made inside namespaces of this process alone (`isolate`): nothing of it is seen by the machine, and it is
//! gone with the process. The redirection is the product's own, applied by `smidge redirect` as in an init container.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

use crate::process;

/// Set in the process that has its own namespaces.
const INSIDE: &str = "SMIDGE_SIDECARS_INSIDE";
/// Where the server serves, in either pod's words.
pub const PORT: u16 = 8080;
/// The address of the Service that the client calls. Nobody has it: it is redirected, or it is nobody's.
pub const SERVICE: &str = "10.9.9.9:80";
/// The user that the redirection lets through.
const PROXY_USER: &str = "1337";

/// One end of a way.
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

    /// The address of its pod, as `mesh.yaml` has it.
    pub fn address(self) -> &'static str {
        match self {
            Self::Client => "10.9.0.2",
            Self::Server => "10.9.0.3",
        }
    }
}

/// Goes on in network and mount namespaces of its own: runs this program again in them, in the place of this process.
pub fn isolate() -> anyhow::Result<()> {
    if std::env::var_os(INSIDE).is_none() {
        let program = std::env::current_exe()?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--"]).arg(program).args(std::env::args_os().skip(1));
        return Err(command.env(INSIDE, "1").exec()).context("failed to run unshare");
    }
    // Names of network namespaces are files below /run; nobody else sees these.
    shell("mount --make-rprivate / && mount -t tmpfs tmpfs /run && ip link set lo up")
}

/// A client's pod and a server's, connected to each other and to nothing else.
#[derive(Debug, Clone)]
pub struct Pods(String);

impl Pods {
    /// Makes the pods of a path.
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
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            anyhow::ensure!(output.status.success(), "smidge redirect failed: {said}");
        }
        Ok(())
    }

    /// A program in a pod, as the application.
    pub fn command(&self, side: Side, program: &Path) -> Command {
        let mut command = self.inside(side, &["setpriv", "--pdeathsig", "KILL"]);
        command.arg(program);
        command
    }

    /// A program in a pod, as the proxy.
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

/// A program that ends with this value.
pub struct Running(Child);

impl Running {
    /// Starts it; what it says goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log)?;
        let child = command.stdout(file.try_clone()?).stderr(file).spawn();
        Ok(Self(child.with_context(|| format!("failed to start {command:?}"))?))
    }

    /// The CPU time that it has used, in microseconds.
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
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{script}: {said}");
    Ok(())
}
