//! Runs the tools that load the rules, inside the pod's network namespace.
//!
//! Impure. nftables first, iptables where nftables fails. Either every rule is in place afterwards or the error has the
//! reason: a pod whose traffic would bypass the proxy must not start. Decides nothing about the rules.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

use super::{Exclusions, INBOUND_SOURCES, ProxySockets, Version, iptables, nftables};

/// Tool that loads the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Tool {
    /// nftables, and iptables if that fails.
    #[default]
    Auto,
    /// nftables alone.
    Nftables,
    /// iptables alone.
    Iptables,
}

/// Errors of redirecting the pod's traffic.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tool could not be run at all.
    #[error("failed to run {tool}: {source}{}", not_found_hint(source))]
    Start {
        /// Name of the program.
        tool: &'static str,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The tool exited with a failure.
    #[error("{tool} failed: {message}{}", hint(message))]
    Refused {
        /// Name of the program.
        tool: &'static str,
        /// Standard error of the tool.
        message: String,
    },
    /// Both tools failed.
    #[error("failed to redirect the pod's traffic:\n  {nftables}\n  {iptables}")]
    Both {
        /// Error of nftables.
        nftables: Box<Error>,
        /// Error of iptables.
        iptables: Box<Error>,
    },
}

fn not_found_hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound { " (hint: the init image lacks it)" } else { "" }
}

fn hint(message: &str) -> &'static str {
    if message.contains("not permitted")
        || message.contains("ermission denied")
        || message.contains("you must be root")
    {
        " (hint: the container needs user 0 and the capability NET_ADMIN; does a pod security policy take it away?)"
    } else if message.contains("o such file")
        || message.contains("not supported")
        || message.contains("does not exist")
    {
        " (hint: the node's kernel lacks nf_nat or the redirect target; load nft_redir and nft_chain_nat, or xt_REDIRECT)"
    } else {
        ""
    }
}

/// Loads the rules for a proxy with these sockets; returns the name of the tool that loaded them. A second call
/// changes nothing.
pub fn apply(exclusions: &Exclusions, proxy: ProxySockets, tool: Tool) -> Result<&'static str, Error> {
    let ipv6 = has_ipv6();
    if ipv6 {
        // Added before the rules: the proxy binds this address as soon as it runs.
        let address = format!("{}/128", INBOUND_SOURCES.1);
        run("ip", &["-6", "address", "replace", &address, "dev", "lo"], "")?;
    }
    match tool {
        Tool::Nftables => with_nftables(exclusions, proxy),
        Tool::Iptables => with_iptables(exclusions, proxy, ipv6),
        Tool::Auto => with_nftables(exclusions, proxy).or_else(|nftables| {
            with_iptables(exclusions, proxy, ipv6).map_err(|iptables| Error::Both {
                nftables: Box::new(nftables),
                iptables: Box::new(iptables),
            })
        }),
    }
}

/// Records the digest of the applied rules where `proof` reads it. Called after the rules are in place, as the last step.
pub fn record(digest: &str) -> Result<(), Error> {
    run("ip", &["link", "set", "dev", "lo", "alias", digest], "").map(drop)
}

/// Returns true if the network namespace has IPv6: its loopback interface then has an IPv6 address.
fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.trim().is_empty())
}

fn with_nftables(exclusions: &Exclusions, proxy: ProxySockets) -> Result<&'static str, Error> {
    run("nft", &["-f", "-"], &nftables(exclusions, proxy)).map(|_| "nftables")
}

fn with_iptables(exclusions: &Exclusions, proxy: ProxySockets, ipv6: bool) -> Result<&'static str, Error> {
    load(exclusions, proxy, Version::V4, "iptables-save", "iptables-restore")?;
    if ipv6 {
        load(exclusions, proxy, Version::V6, "ip6tables-save", "ip6tables-restore")?;
    }
    Ok("iptables")
}

fn load(
    exclusions: &Exclusions,
    proxy: ProxySockets,
    version: Version,
    save: &'static str,
    restore: &'static str,
) -> Result<(), Error> {
    let hooked = run(save, &["-t", "nat"], "")?.lines().any(|line| line == "-A OUTPUT -p tcp -j SMIDGE_OUT");
    run(restore, &["--noflush", "--wait", "5"], &iptables(exclusions, proxy, version, hooked)).map(drop)
}

/// Runs `tool` with `input` as standard input; returns its standard output.
fn run(tool: &'static str, args: &[&str], input: &str) -> Result<String, Error> {
    let start = |source| Error::Start { tool, source };
    let mut child = Command::new(tool)
        .args(args)
        // The pod's root file system is read-only; `/dev/shm` is writable in every pod.
        .env("XTABLES_LOCKFILE", "/dev/shm/xtables.lock")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that exits before it has read everything reports the reason itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::Refused { tool, message })
}
