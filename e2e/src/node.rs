//! Node of the test cluster: runs commands in it, stops one of its programs for a while, or redirects a port.
//!
//! Only clusters of `e2e/cluster` have a node that tests may enter; elsewhere such a test is skipped, with a message.

use std::process::Command;

use anyhow::Context as _;

/// Runs a command inside the node. Returns `None`, with a message, where the cluster is not one of `e2e/cluster`.
pub fn run(command: &[&str]) -> anyhow::Result<Option<()>> {
    let Some(tool) = std::env::var_os("SMIDGE_CLUSTER_TOOL") else {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        anyhow::ensure!(!ci, "SMIDGE_CLUSTER_TOOL is not set, and with CI=true nothing is skipped");
        eprintln!("skipped: the cluster is not one of e2e/cluster, so its node cannot be entered");
        return Ok(None);
    };
    let status =
        Command::new(tool).arg("enter").args(command).status().context("failed to enter the node")?;
    anyhow::ensure!(status.success(), "{} failed in the node", command.join(" "));
    Ok(Some(()))
}

/// Something that was done to the node, and is undone when this is dropped.
pub struct Disturbance {
    undo: Vec<String>,
}

impl Disturbance {
    /// Stops a program of the node, as if its machine did not answer any more.
    pub fn stop(program: &str) -> anyhow::Result<Option<Self>> {
        let signal = |name: &str| ["pkill", name, "-x", program].map(str::to_owned).to_vec();
        Self::begin(&signal("-STOP"), signal("-CONT"))
    }

    /// Drops every packet to and from an address, as if its node had lost its power.
    pub fn silence(address: &str) -> anyhow::Result<Option<Self>> {
        let firewall = if address.contains(':') { "ip6tables" } else { "iptables" };
        let rules = |action: &str| {
            let rule =
                |side: &str| format!("{firewall} -w -t raw {action} PREROUTING {side} {address} -j DROP");
            ["sh".to_owned(), "-c".to_owned(), format!("{} && {}", rule("-d"), rule("-s"))]
        };
        Self::begin(&rules("-I"), rules("-D").to_vec())
    }

    /// Sends connections to port `port` of the address `from` to another one of the same family, as a stolen address would.
    pub fn redirect(from: &str, port: u16, to: &str) -> anyhow::Result<Option<Self>> {
        let is_ipv6 = from.contains(':');
        let firewall = if is_ipv6 { "ip6tables" } else { "iptables" };
        let to = if is_ipv6 { format!("[{to}]:{port}") } else { format!("{to}:{port}") };
        let port = port.to_string();
        let rule = |action: &str| {
            let match_ = ["-d", from, "-p", "tcp", "--dport", &port, "-j", "DNAT", "--to-destination", &to];
            [firewall, "-t", "nat", action, "PREROUTING"]
                .iter()
                .chain(&match_)
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        Self::begin(&rule("-I"), rule("-D"))
    }

    fn begin(command: &[String], undo: Vec<String>) -> anyhow::Result<Option<Self>> {
        Ok(run(&command.iter().map(String::as_str).collect::<Vec<_>>())?.map(|()| Self { undo }))
    }
}

impl Drop for Disturbance {
    fn drop(&mut self) {
        if let Err(error) = run(&self.undo.iter().map(String::as_str).collect::<Vec<_>>()) {
            eprintln!("the node was not restored: {error:#}");
        }
    }
}
