//! `smidge sandbox-part`: the parts of a sandbox that run in its networks. Started by `sandbox` and by the quickstart, not
//! by users.
//!
//! Turns arguments into networks, into what a proxy needs, into a server, into calls, or into a wait. Decides nothing.

use std::{
    env,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context as _;
use smidge_xds::{bootstrap::READINESS_PATH, mesh::proxy::READINESS_PORT};

use super::super::terminal::Shown;
use crate::sandbox::{
    call, echo, namespaces,
    prepare::{Preparation, prepare},
};

/// Maximum length of the calls to make, in bytes.
const LONGEST: u64 = 1 << 20;
/// Time limit of one look at a proxy.
const LOOK: Duration = Duration::from_secs(2);

/// Arguments of `smidge sandbox-part`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Part to run.
    #[command(subcommand)]
    pub part: Part,
}

/// The parts.
#[derive(Debug, clap::Subcommand)]
pub enum Part {
    /// Answer with a name.
    Echo {
        /// The name.
        name: String,
        /// The ports.
        ports: Vec<u16>,
    },
    /// Make a network for each machine, in a network and a mount namespace that has none.
    Network {
        /// Address of the control plane, which this network has.
        control_plane: Ipv4Addr,
        /// The machines: NAME=ADDRESS.
        #[arg(value_parser = machine)]
        machines: Vec<(String, Ipv4Addr)>,
    },
    /// Prepare a machine for its proxy.
    Prepare(Preparation),
    /// Make the calls of standard input, and print the outcome.
    Call,
    /// Succeed if the proxies at these addresses are ready.
    Ready {
        /// The addresses.
        addresses: Vec<Ipv4Addr>,
    },
}

/// Runs a part. Exit status: 0 success, 1 failure.
#[allow(clippy::needless_pass_by_value)] // All commands take their arguments alike.
pub fn run(args: Args) -> ExitCode {
    let done = match args.part {
        Part::Echo { name, ports } => serve(name, &ports),
        Part::Network { control_plane, machines } => {
            namespaces::network(Command::new("sh"), control_plane, machines.into_iter()).map_err(Into::into)
        }
        Part::Prepare(machine) => prepared(&machine),
        Part::Call => calls(),
        Part::Ready { addresses } => addresses.iter().try_for_each(|address| ready(*address)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", Shown(&format!("{error:#}")));
            ExitCode::from(1)
        }
    }
}

fn machine(text: &str) -> Result<(String, Ipv4Addr), String> {
    let (name, address) = text.split_once('=').ok_or("expected NAME=ADDRESS")?;
    let address = address.parse().map_err(|error| format!("{address:?}: {error}"))?;
    Ok((name.to_owned(), address))
}

fn prepared(machine: &Preparation) -> anyhow::Result<()> {
    let smidge = env::current_exe().context("failed to find this program")?;
    let output = prepare(Command::new("sh"), smidge.as_os_str(), machine)?;
    let words = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "failed to prepare {}: {}", machine.machine, words.trim());
    Ok(())
}

fn serve(name: String, ports: &[u16]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(echo::serve(name, ports))?)
}

fn calls() -> anyhow::Result<()> {
    let mut text = Vec::new();
    io::stdin().take(LONGEST).read_to_end(&mut text)?;
    let calls = serde_json::from_slice(&text).context("expected calls in JSON")?;
    let outcome = serde_json::to_string(&call::call(&calls))?;
    Ok(writeln!(io::stdout(), "{outcome}")?)
}

fn ready(address: Ipv4Addr) -> anyhow::Result<()> {
    let place = SocketAddr::new(IpAddr::V4(address), READINESS_PORT);
    let mut stream = TcpStream::connect_timeout(&place, LOOK)?;
    stream.set_read_timeout(Some(LOOK))?;
    write!(stream, "GET {READINESS_PATH} HTTP/1.1\r\nhost: {place}\r\nconnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    anyhow::ensure!(start == *b"HTTP/1.1 200", "{place} is not ready");
    Ok(())
}
