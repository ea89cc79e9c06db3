//! `smidge redirect`: turns flags into exclusions, applies the rules once or verifies that they are in force, and waits for
//! the proxy on request.
//!
//! Runs in the init container of an injected pod, and in the pod's network on behalf of the CNI plugin. Does not define
//! the rules.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use super::ready::ready;
use crate::redirect::{
    Cidr, Exclusions, ProxySockets, SHARED_USER, Version,
    apply::{self, Tool},
    iptables, nftables, proof,
    request::Redirection,
};

/// Interval between looks at the proxy.
const INTERVAL: Duration = Duration::from_millis(20);
/// Time between messages while the proxy is not ready.
const REPORT: Duration = Duration::from_secs(10);

/// Arguments of `smidge redirect`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Args {
    /// User that the proxy runs as. Its connections are not redirected if its group is that of the proxies (1337) as
    /// well.
    #[arg(long, default_value_t = SHARED_USER)]
    proxy_user: u32,
    /// Mark of the proxy's sockets, in place of its user and group: where all processes have one user. The proxy needs
    /// the same mark in its bootstrap.
    #[arg(long, conflicts_with = "proxy_user")]
    proxy_mark: Option<u32>,
    /// Ports on which callers reach the application without the proxy.
    #[arg(long, value_delimiter = ',')]
    exclude_inbound_ports: Vec<u16>,
    /// Ports to which the application connects without the proxy.
    #[arg(long, value_delimiter = ',')]
    exclude_outbound_ports: Vec<u16>,
    /// Networks to which the application connects without the proxy.
    #[arg(long, value_delimiter = ',')]
    exclude_outbound_cidrs: Vec<Cidr>,
    /// Tool that loads the rules.
    #[arg(long, value_enum, default_value_t)]
    tool: Tool,
    /// After that, wait until the proxy of this pod is ready, however long that takes.
    #[arg(long)]
    await_proxy: bool,
    /// Record the rules at the loopback interface, after they were applied, where --verify finds them.
    #[arg(long, conflicts_with_all = ["proxy_mark", "dry_run"])]
    record: bool,
    /// Verify that exactly these rules were applied and recorded, and that they are in force; change nothing. Needs no
    /// privilege.
    #[arg(long, conflicts_with_all = ["proxy_mark", "dry_run", "record", "tool"])]
    verify: bool,
    /// Print the rules and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Runs `smidge redirect`.
pub fn run(args: Args) -> ExitCode {
    let Args {
        proxy_user,
        proxy_mark,
        exclude_inbound_ports,
        exclude_outbound_ports,
        exclude_outbound_cidrs,
        tool,
        await_proxy,
        record,
        verify,
        dry_run,
    } = args;
    let proxy = proxy_mark.map_or(ProxySockets::OfUser(proxy_user), ProxySockets::Marked);
    let exclusions = Exclusions {
        inbound_ports: exclude_inbound_ports,
        outbound_ports: exclude_outbound_ports,
        outbound_cidrs: exclude_outbound_cidrs,
    };
    if dry_run {
        match tool {
            Tool::Auto | Tool::Nftables => print!("{}", nftables(&exclusions, proxy)),
            Tool::Iptables => print!(
                "# iptables-restore\n{}# ip6tables-restore\n{}",
                iptables(&exclusions, proxy, Version::V4, false),
                iptables(&exclusions, proxy, Version::V6, false),
            ),
        }
        return ExitCode::SUCCESS;
    }
    let redirection = Redirection { proxy_user, exclusions };
    let outcome = if verify {
        proof::verify(&redirection)
            .map(|()| "the pod's TCP traffic is redirected to its proxy".to_owned())
            .map_err(Box::<dyn Error>::from)
    } else {
        applied(&redirection, proxy, tool, record)
            .map(|tool| format!("the pod's TCP traffic is redirected to its proxy with {tool}"))
            .map_err(Box::<dyn Error>::from)
    };
    match outcome {
        Ok(message) => {
            eprintln!("smidge: {message}");
            if await_proxy {
                wait();
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("smidge: {error}");
            ExitCode::from(1)
        }
    }
}

/// Applies the rules, and records them on request.
fn applied(
    redirection: &Redirection,
    proxy: ProxySockets,
    tool: Tool,
    record: bool,
) -> Result<&'static str, apply::Error> {
    let tool = apply::apply(&redirection.exclusions, proxy, tool)?;
    if record {
        apply::record(&redirection.digest())?;
    }
    Ok(tool)
}

/// Waits until the proxy at loopback is ready, and reports every ten seconds that it is not.
fn wait() {
    let started = Instant::now();
    let mut report = REPORT;
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    while !loopback.into_iter().any(|address| ready(address).is_ok()) {
        if started.elapsed() >= report {
            eprintln!(
                "smidge: the proxy has no configuration after {} s; hint: its log has the reason: kubectl logs POD -c {}",
                report.as_secs(),
                smidge_crds::labels::PROXY_CONTAINER,
            );
            report += REPORT;
        }
        thread::park_timeout(INTERVAL);
    }
    eprintln!("smidge: the proxy is ready after {} ms", started.elapsed().as_millis());
}
