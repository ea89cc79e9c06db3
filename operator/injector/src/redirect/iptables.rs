//! Writes the rules in the language of `iptables-restore --noflush`, for nodes whose kernel or image has no `nft`.
//!
//! Pure. One text per IP version, each one transaction. Writes the same rules as `nftables`.

use std::fmt::Write;

use smidge_xds::mesh::proxy::{INBOUND_PORT, OUTBOUND_PORT};

use super::{DNS_PORT, Exclusions, INBOUND_SOURCES, OPEN_PORTS, PROXY_GROUP, ProxySockets, RedirectedPorts};

/// IP version of a set of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Builds the rules for a proxy with these sockets. Declaring a chain of our own empties it, so loading the rules
/// twice has the effect of loading them once; the jumps to these chains are in built-in chains, and are left out if
/// they are already there (`hooked`).
pub fn rules(exclusions: &Exclusions, proxy: ProxySockets, version: Version, hooked: bool) -> String {
    let (source, loopback) = match version {
        Version::V4 => (INBOUND_SOURCES.0, "127.0.0.0/8"),
        Version::V6 => (INBOUND_SOURCES.1, "::1"),
    };
    let mut rules = String::from("*nat\n:SMIDGE_IN - [0:0]\n:SMIDGE_OUT - [0:0]\n:SMIDGE_PROXY - [0:0]\n");
    let mut rule = |text: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(rules, "-A {text}");
    };
    rule("SMIDGE_IN -i lo -j RETURN");
    for interface in &exclusions.interfaces {
        rule(&format!("SMIDGE_IN -i {interface} -j RETURN"));
    }
    for port in OPEN_PORTS {
        rule(&format!("SMIDGE_IN -p tcp --dport {port} -j RETURN"));
    }
    let (inbound_open, inbound_taken) = split(&exclusions.inbound, INBOUND_PORT);
    let (outbound_open, outbound_taken) = split(&exclusions.outbound, OUTBOUND_PORT);
    for end in inbound_open.iter().chain(&inbound_taken) {
        rule(&format!("SMIDGE_IN -p tcp {end}"));
    }
    rule("SMIDGE_PROXY ! -o lo -j RETURN");
    rule(&format!("SMIDGE_PROXY -s {source} -j RETURN"));
    rule(&format!("SMIDGE_PROXY -d {loopback} -j RETURN"));
    for end in inbound_open.iter().chain(&inbound_taken) {
        rule(&format!("SMIDGE_PROXY -p tcp {end}"));
    }
    // `-g`: after a RETURN from that chain, no further rule for the application's traffic applies.
    let owned = match proxy {
        ProxySockets::OfUser(user) => format!("-m owner --uid-owner {user} --gid-owner {PROXY_GROUP}"),
        ProxySockets::Marked(mark) => format!("-m mark --mark {mark}"),
    };
    rule(&format!("SMIDGE_OUT {owned} -g SMIDGE_PROXY"));
    rule("SMIDGE_OUT -o lo -j RETURN");
    for interface in &exclusions.interfaces {
        rule(&format!("SMIDGE_OUT -o {interface} -j RETURN"));
    }
    rule(&format!("SMIDGE_OUT -p tcp --dport {DNS_PORT} -j RETURN"));
    for end in &outbound_open {
        rule(&format!("SMIDGE_OUT -p tcp {end}"));
    }
    for cidr in exclusions.outbound_cidrs.iter().filter(|cidr| cidr.is_ipv6() == (version == Version::V6)) {
        rule(&format!("SMIDGE_OUT -d {cidr} -j RETURN"));
    }
    for end in &outbound_taken {
        rule(&format!("SMIDGE_OUT -p tcp {end}"));
    }
    if !hooked {
        rule("PREROUTING -p tcp -j SMIDGE_IN");
        rule("OUTPUT -p tcp -j SMIDGE_OUT");
    }
    rules.push_str("COMMIT\n");
    rules
}

/// Returns the ends of the rules about the ports that are not redirected, and of those that redirect to `proxy`.
fn split(ports: &RedirectedPorts, proxy: u16) -> (Vec<String>, Vec<String>) {
    let redirect = format!("-j REDIRECT --to-ports {proxy}");
    match ports {
        RedirectedPorts::AllBut(ports) => {
            (ports.iter().map(|port| format!("--dport {port} -j RETURN")).collect(), vec![redirect])
        }
        RedirectedPorts::Only(ports) => {
            (Vec::new(), ports.iter().map(|port| format!("--dport {port} {redirect}")).collect())
        }
    }
}
