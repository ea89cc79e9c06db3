//! `smidge cni`: the agent and the installer of the CNI plugin, and the plugin itself.
//!
//! The program is the plugin if it is called by the plugin's name, as the container runtime does; the environment does not
//! decide that, so that no variable turns another command into it. Decides nothing about pods.

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::cni::{
    PLUGIN, SOCKET, agent,
    install::{InstallError, Node},
    plugin, removal,
};

/// Arguments of `smidge cni`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Commands of `smidge cni`.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Apply rules in the networks of this node's pods, for the plugin, until stopped.
    Agent {
        /// Path of the socket at which the plugin reaches the agent.
        #[arg(long, default_value = SOCKET)]
        socket: PathBuf,
    },
    /// Put the plugin on the node, and keep it there until stopped; take it off if its DaemonSet is gone then.
    Install {
        #[command(flatten)]
        places: Places,
        /// Namespace of the DaemonSet that this process belongs to.
        #[arg(long, env = "POD_NAMESPACE", default_value = "smidge-system")]
        namespace: String,
        /// Name of that DaemonSet.
        #[arg(long, default_value = PLUGIN)]
        daemon_set: String,
    },
    /// Take the plugin out of the node's configuration.
    Uninstall {
        #[command(flatten)]
        places: Places,
    },
    /// Check that the plugin is installed and that the agent answers.
    Ready {
        #[command(flatten)]
        places: Places,
    },
}

/// Places on the node.
#[derive(Debug, clap::Args)]
struct Places {
    /// Folder of the node's CNI plugins.
    #[arg(long, default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Folder of the node's CNI configuration.
    #[arg(long, default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// Path of the agent's socket on the node.
    #[arg(long, default_value = SOCKET)]
    socket: String,
}

impl Places {
    fn node(self) -> Node {
        Node { bin_dir: self.bin_dir, conf_dir: self.conf_dir, socket: self.socket }
    }
}

/// Returns true if this process was started as the plugin.
pub fn is_plugin() -> bool {
    let name = std::env::args_os().next();
    name.as_deref().map(Path::new).and_then(Path::file_name) == Some(OsStr::new(PLUGIN))
}

/// Runs the plugin. Exit status: 0 success, 1 an error, which is on standard output.
pub fn run_plugin() -> ExitCode {
    let output = plugin::run(|name| std::env::var(name).ok(), io::stdin().lock());
    if !output.text.is_empty() && writeln!(io::stdout(), "{}", output.text).is_err() {
        return ExitCode::from(1);
    }
    if output.is_error { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

/// Runs `smidge cni`. Exit status: 0 success or an orderly stop, 1 an error.
pub fn run(args: Args) -> ExitCode {
    let done = match args.command {
        Command::Agent { socket } => agent::start(&socket).map_err(anyhow::Error::from).and_then(|()| {
            eprintln!("smidge: the agent of the CNI plugin listens on {}", socket.display());
            blocking(stopped())?.map_err(anyhow::Error::from)
        }),
        Command::Install { places, namespace, daemon_set } => {
            blocking(install(places.node(), &namespace, &daemon_set)).and_then(|done| done)
        }
        Command::Uninstall { places } => places.node().uninstall().map(drop).map_err(anyhow::Error::from),
        Command::Ready { places } => ready(&places.node()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smidge: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn blocking<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

/// Waits for the signal by which Kubernetes stops a container.
async fn stopped() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn install(node: Node, namespace: &str, daemon_set: &str) -> anyhow::Result<()> {
    let ended: Result<(), InstallError> = tokio::select! {
        stopped = stopped() => stopped.map(Ok)?,
        ended = node.keep() => ended,
    };
    ended?;
    if removal::is_uninstalled(namespace, daemon_set).await {
        node.uninstall()?;
        eprintln!(
            "smidge: DaemonSet {namespace}/{daemon_set} is gone: the CNI plugin was taken out of the configuration"
        );
    } else {
        eprintln!(
            "smidge: the CNI plugin stays in the configuration until the next pod of {namespace}/{daemon_set} serves it"
        );
    }
    Ok(())
}

fn ready(node: &Node) -> anyhow::Result<()> {
    anyhow::ensure!(node.is_installed(), "the CNI plugin is not installed in {}", node.conf_dir.display());
    UnixStream::connect(&node.socket)?;
    Ok(())
}
