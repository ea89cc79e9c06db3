//! `smidge sandbox-part`: the parts of a sandbox that run in its networks. Started by `sandbox`, not by users.
//!
//! Turns arguments into a server, into calls, or into a wait. Decides nothing.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use smidge_xds::{bootstrap::READINESS_PATH, mesh::proxy::READINESS_PORT};

use super::super::terminal::Shown;
use crate::sandbox::{call, echo};

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
