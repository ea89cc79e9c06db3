//! Fuzz target of redirection: exclusions in a user's words, of ports, networks and interfaces. Networks are read back as they are printed, and no value
//! becomes more than one word of a rule.

use std::collections::BTreeSet;

use smidge::redirect::{
    Cidr, Exclusions, Interface, ProxySockets, RedirectedPorts, Version, iptables, nftables,
};

/// Runs one input; bytes that are not UTF-8 are ignored.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut exclusions = Exclusions::default();
    let mut ports = BTreeSet::new();
    for word in text.split(',') {
        if let Ok(cidr) = word.parse::<Cidr>() {
            assert_eq!(cidr.to_string().parse(), Ok(cidr), "{word}");
            exclusions.outbound_cidrs.push(cidr);
        }
        if let Ok(interface) = word.parse::<Interface>() {
            exclusions.interfaces.push(interface);
        }
        if let Ok(port) = word.parse::<u16>() {
            ports.insert(port);
        }
    }
    exclusions.outbound = RedirectedPorts::Only(ports.clone());
    exclusions.inbound = RedirectedPorts::AllBut(ports);
    let harmless = |rules: &str| {
        let strange = |c: char| {
            !(c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || ":./-_{},;\"'=!*#()[]".contains(c))
        };
        assert!(!rules.contains(strange), "{text:?} becomes {rules}");
    };
    let proxy = ProxySockets::OfUser(30_000);
    harmless(&nftables(&exclusions, proxy));
    for version in [Version::V4, Version::V6] {
        harmless(&iptables(&exclusions, proxy, version, false));
    }
    for argument in exclusions.to_args() {
        assert!(argument.starts_with("--exclude-") || argument.starts_with("--include-"), "{argument}");
    }
}
