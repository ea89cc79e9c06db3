//! Writes the rules in the language of `nft -f -`: one transaction that replaces a table of our own.
//!
//! Pure. IPv4 and IPv6 share one table. Writes the same rules as `iptables`.

use smidge_xds::mesh::proxy::{INBOUND_PORT, OUTBOUND_PORT};

use super::{
    DNS_PORT, Exclusions, INBOUND_SOURCES, OPEN_PORTS, PROXY_GROUP, ProxySockets, RedirectedPorts, list,
};

/// Builds the rules for a proxy with these sockets. Loading them twice has the effect of loading them once.
pub fn rules(exclusions: &Exclusions, proxy: ProxySockets) -> String {
    let (source4, source6) = INBOUND_SOURCES;
    let (always, dns) = (list(&OPEN_PORTS), list(&[DNS_PORT]));
    let (inbound, outbound) = (left_alone(&exclusions.inbound), left_alone(&exclusions.outbound));
    let (arriving, leaving) = (of_interfaces("iifname", exclusions), of_interfaces("oifname", exclusions));
    let networks = exclusions.outbound_cidrs.iter().fold(String::new(), |rules, cidr| {
        let family = if cidr.is_ipv6() { "ip6" } else { "ip" };
        rules + &format!("    {family} daddr {cidr} accept\n")
    });
    let owned = match proxy {
        ProxySockets::OfUser(user) => format!("meta skuid {user} meta skgid {PROXY_GROUP}"),
        ProxySockets::Marked(mark) => format!("meta mark {mark}"),
    };
    // Declaring the table before deleting it makes the deletion succeed the first time too.
    format!(
        "table inet smidge
delete table inet smidge
table inet smidge {{
  chain inbound {{
    type nat hook prerouting priority -100; policy accept;
    meta l4proto != tcp accept
    iifname \"lo\" accept
{arriving}    tcp dport {{ {always} }} accept
{inbound}    meta l4proto tcp redirect to :{INBOUND_PORT}
  }}
  chain outbound {{
    type nat hook output priority -100; policy accept;
    meta l4proto != tcp accept
    {owned} jump proxy
    oifname \"lo\" accept
{leaving}    tcp dport {{ {dns} }} accept
{outbound}{networks}    meta l4proto tcp redirect to :{OUTBOUND_PORT}
  }}
  chain proxy {{
    oifname != \"lo\" accept
    ip saddr {source4} accept
    ip6 saddr {source6} accept
    ip daddr 127.0.0.0/8 accept
    ip6 daddr ::1 accept
{inbound}    meta l4proto tcp redirect to :{INBOUND_PORT}
  }}
}}
"
    )
}

/// Returns the rule about the interfaces whose connections are not redirected; nothing if there are none. Names are compared
/// as text, so that an interface may be made after the rules.
fn of_interfaces(selector: &str, exclusions: &Exclusions) -> String {
    let names: Vec<_> = exclusions.interfaces.iter().map(|name| format!("\"{name}\"")).collect();
    if names.is_empty() {
        return String::new();
    }
    format!("    {selector} {{ {} }} accept\n", names.join(", "))
}

/// Returns the rule about the ports that are not redirected; nothing if all are.
fn left_alone(ports: &RedirectedPorts) -> String {
    match ports {
        RedirectedPorts::AllBut(none) if none.is_empty() => String::new(),
        RedirectedPorts::AllBut(ports) => format!("    tcp dport {{ {} }} accept\n", list(ports)),
        RedirectedPorts::Only(none) if none.is_empty() => "    meta l4proto tcp accept\n".to_owned(),
        RedirectedPorts::Only(ports) => format!("    tcp dport != {{ {} }} accept\n", list(ports)),
    }
}
