//! `smidge redirect`: turns flags into exclusions, and applies the rules once, or verifies that they are in force.
//!
//! Runs in the init container of an injected pod, and in the pod's network on behalf of the CNI plugin. Does not define
//! the rules.

use std::process::ExitCode;

use crate::redirect::{
    Cidr, Exclusions, Interface, ProxySockets, RedirectedPorts, SHARED_USER, Version,
    apply::{self, Tool},
    iptables, nftables, proof,
    request::Redirection,
};

/// Arguments of `smidge redirect`.
#[derive(Debug, clap::Args)]
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
    /// Ports on which callers reach the proxy; on all others they reach the application without it.
    #[arg(long, value_delimiter = ',', conflicts_with = "exclude_inbound_ports")]
    include_inbound_ports: Vec<u16>,
    /// Ports to which the application connects by the proxy; to all others without it.
    #[arg(long, value_delimiter = ',', conflicts_with = "exclude_outbound_ports")]
    include_outbound_ports: Vec<u16>,
    /// Networks to which the application connects without the proxy.
    #[arg(long, value_delimiter = ',')]
    exclude_outbound_cidrs: Vec<Cidr>,
    /// Interfaces, beside the one of the pod's own address, whose connections in both directions pass the proxy by.
    #[arg(long, value_delimiter = ',')]
    exclude_interfaces: Vec<Interface>,
    /// Tool that loads the rules.
    #[arg(long, value_enum, default_value_t)]
    tool: Tool,
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
        include_inbound_ports,
        include_outbound_ports,
        exclude_outbound_cidrs,
        exclude_interfaces,
        tool,
        record,
        verify,
        dry_run,
    } = args;
    let proxy = proxy_mark.map_or(ProxySockets::OfUser(proxy_user), ProxySockets::Marked);
    let exclusions = Exclusions {
        inbound: ports(include_inbound_ports, exclude_inbound_ports),
        outbound: ports(include_outbound_ports, exclude_outbound_ports),
        outbound_cidrs: exclude_outbound_cidrs,
        interfaces: exclude_interfaces,
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
    let redirection = Redirection { proxy_user, exclusions: exclusions.clone() };
    if verify {
        return match proof::verify(&redirection) {
            Ok(()) => done("the pod's TCP traffic is redirected to its proxy"),
            Err(error) => failed(&error),
        };
    }
    let applied = apply::apply(&exclusions, proxy, tool).and_then(|tool| {
        if record {
            apply::record(&redirection.digest())?;
        }
        Ok(tool)
    });
    match applied {
        Ok(tool) => done(&format!("the pod's TCP traffic is redirected to its proxy with {tool}")),
        Err(error) => failed(&error),
    }
}

/// Returns the ports that are redirected. Flags have at least one value.
fn ports(included: Vec<u16>, excluded: Vec<u16>) -> RedirectedPorts {
    if included.is_empty() {
        RedirectedPorts::AllBut(excluded.into_iter().collect())
    } else {
        RedirectedPorts::Only(included.into_iter().collect())
    }
}

fn done(message: &str) -> ExitCode {
    eprintln!("smidge: {message}");
    ExitCode::SUCCESS
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("smidge: {error}");
    ExitCode::from(1)
}
