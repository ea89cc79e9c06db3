//! Turns redirection settings into firewall rules, and applies them inside a pod.
//!
//! TCP that the application sends is redirected to the proxy's outbound port, TCP that arrives to its inbound port.
//! UDP, DNS and what stays on loopback are not redirected. Pure, apart from [`apply`], which runs the tools, and
//! [`proof`], which verifies the result; [`nftables`] and [`iptables`] write the same rules in two languages. Runs once,
//! in an init container or for the CNI plugin; no process of it remains.

use std::{fmt, net::IpAddr, str::FromStr};

pub use smidge_crds::redirected::RedirectedPorts;
use smidge_crds::redirected::{EXCLUDE_INTERFACES_ARG, INBOUND, OUTBOUND};
use smidge_xds::mesh::proxy::{READINESS_PORT, STATS_PORT};

pub mod apply;
mod interface;
mod iptables;
mod nftables;
pub mod proof;
pub mod request;

pub use interface::Interface;
pub use iptables::{Version, rules as iptables};
pub use nftables::rules as nftables;

/// Group that every proxy runs as, and no application. Connections of this group and the proxy's user are not
/// redirected.
pub const PROXY_GROUP: u32 = 1337;
/// User of a proxy that has none of its own, as in templates that were injected without a webhook.
pub const SHARED_USER: u32 = 1337;

/// Mark of the proxy's own sockets, whose connections are not redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxySockets {
    /// The user of the process, together with [`PROXY_GROUP`].
    OfUser(u32),
    /// The mark that the proxy sets on its sockets (`SO_MARK`), where all processes have one user: in a user namespace
    /// with one user, for example. A process that may set marks can pass the proxy by.
    Marked(u32),
}

/// Ports that the kubelet and metrics collectors reach without redirection: the proxy's own.
const OPEN_PORTS: [u16; 2] = [READINESS_PORT, STATS_PORT];
/// Port of DNS. DNS over TCP is not redirected: the resolver is not a service of the mesh.
const DNS_PORT: u16 = 53;

/// Source addresses of the proxy's connections to its own workload. Without them such a connection looks like a call
/// that the application makes to itself, and would be redirected to the proxy in an endless loop.
const INBOUND_SOURCES: (&str, &str) = ("127.0.0.6", "::6");

/// Exclusions from redirection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exclusions {
    /// Ports on which callers reach the proxy; the application directly on all others.
    pub inbound: RedirectedPorts,
    /// Ports for which the application connects to the proxy; directly to all others.
    pub outbound: RedirectedPorts,
    /// Networks to which the application connects directly, sorted.
    pub outbound_cidrs: Vec<Cidr>,
    /// Interfaces whose connections, in both directions, pass the proxy by, sorted.
    pub interfaces: Vec<Interface>,
}

impl Exclusions {
    /// Returns the arguments of `smidge redirect` for these exclusions.
    pub fn to_args(&self) -> Vec<String> {
        let Self { inbound, outbound, outbound_cidrs, interfaces } = self;
        let cidrs = (!outbound_cidrs.is_empty())
            .then(|| format!("--exclude-outbound-cidrs={}", list(outbound_cidrs)));
        let interfaces =
            (!interfaces.is_empty()).then(|| format!("{EXCLUDE_INTERFACES_ARG}={}", list(interfaces)));
        [inbound.to_arg(INBOUND), outbound.to_arg(OUTBOUND), cidrs, interfaces]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn list<'a, T: fmt::Display + 'a>(items: impl IntoIterator<Item = &'a T>) -> String {
    items.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A network, written `10.1.0.0/16` or `fd00::/8`; an address without a prefix length is a network of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// Returns true if the address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        // An address of the other family has other bits.
        address.is_ipv4() == self.address.is_ipv4() && Self::of(address, self.length).address == self.address
    }

    /// Builds the network of an address. Bits after the prefix have no meaning; they are cleared, so that equal networks
    /// compare equal.
    fn of(address: IpAddr, length: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => IpAddr::V6(
                (v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)).into(),
            ),
        };
        Self { address, length }
    }

    /// Returns true if it is an IPv6 network.
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Cidr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| "not an address")?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => longest,
            Some(length) => {
                length.parse().ok().filter(|length| *length <= longest).ok_or("not a prefix length")?
            }
        };
        Ok(Self::of(address, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_written() {
        for (text, written) in [
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00:1::5/8", "fd00::/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), written);
        }
        for text in ["", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.0/-1", "host", "10.0.0.0/8/8"] {
            text.parse::<Cidr>().unwrap_err();
        }
    }

    /// Both languages must exclude the same and redirect the same, exclusions before redirections.
    #[test]
    fn exclusions_precede_the_redirection() {
        let exclusions = Exclusions {
            inbound: RedirectedPorts::AllBut([9000].into()),
            outbound: RedirectedPorts::AllBut([5432, 6379].into()),
            outbound_cidrs: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
            interfaces: vec!["net1".parse().unwrap()],
        };
        let nft = nftables(&exclusions, ProxySockets::OfUser(31_337));
        let of = |version| iptables(&exclusions, ProxySockets::OfUser(31_337), version, false);
        let (v4, v6) = (of(Version::V4), of(Version::V6));
        for rules in [&nft, &v4, &v6] {
            let at = |text: &str| rules.find(text).unwrap_or_else(|| panic!("{text} is missing in\n{rules}"));
            assert!(at("9000") < rules.rfind("15006").unwrap(), "{rules}");
            assert!(at("5432") < at("15001"), "{rules}");
            assert!(at("6379") < at("15001"), "{rules}");
            assert!(at("net1") < at("15006"), "{rules}");
            assert!(rules.rfind("net1").unwrap() < at("15001"), "{rules}");
        }
        assert!(nft.contains("10.1.0.0/16") && nft.contains("fd00::/8"), "{nft}");
        assert!(v4.contains("10.1.0.0/16") && !v4.contains("fd00::/8"), "{v4}");
        assert!(!v6.contains("10.1.0.0/16") && v6.contains("fd00::/8"), "{v6}");
    }

    /// The rules of both languages about ports that alone are redirected.
    #[test]
    fn all_but_the_included_ports_are_left_alone() {
        let included = Exclusions {
            inbound: RedirectedPorts::Only([8080, 8443].into()),
            outbound: RedirectedPorts::Only([80].into()),
            ..Exclusions::default()
        };
        let proxy = ProxySockets::OfUser(31_337);
        let nft = nftables(&included, proxy);
        assert_eq!(nft.matches("tcp dport != { 8080,8443 } accept").count(), 2, "{nft}");
        assert!(nft.contains("tcp dport != { 80 } accept"), "{nft}");
        let rules = iptables(&included, proxy, Version::V4, false);
        for rule in [
            "SMIDGE_IN -p tcp --dport 8080 -j REDIRECT --to-ports 15006\n",
            "SMIDGE_IN -p tcp --dport 8443 -j REDIRECT --to-ports 15006\n",
            "SMIDGE_PROXY -p tcp --dport 8080 -j REDIRECT --to-ports 15006\n",
            "SMIDGE_OUT -p tcp --dport 80 -j REDIRECT --to-ports 15001\n",
        ] {
            assert!(rules.contains(rule), "{rule} is missing in\n{rules}");
        }
        assert!(!rules.contains("-p tcp -j REDIRECT"), "{rules}");
        // Without any port nothing is redirected, and the rules can still be read.
        let none = Exclusions { inbound: RedirectedPorts::Only([].into()), ..Exclusions::default() };
        assert!(!nftables(&none, proxy).contains("{  }"), "{}", nftables(&none, proxy));
    }

    /// A process with only the user or only the group is an application.
    #[test]
    fn the_proxy_is_identified_by_user_and_group() {
        let none = Exclusions::default();
        let proxy = ProxySockets::OfUser(31_337);
        assert!(nftables(&none, proxy).contains("meta skuid 31337 meta skgid 1337 jump proxy"));
        let owner = "-m owner --uid-owner 31337 --gid-owner 1337 -g SMIDGE_PROXY";
        assert!(iptables(&none, proxy, Version::V4, false).contains(owner));
        let proxy = ProxySockets::Marked(1337);
        assert!(nftables(&none, proxy).contains("meta mark 1337 jump proxy"));
        let marked = "-A SMIDGE_OUT -m mark --mark 1337 -g SMIDGE_PROXY";
        assert!(iptables(&none, proxy, Version::V4, false).contains(marked));
    }

    #[test]
    fn chains_that_are_hooked_are_not_hooked_again() {
        let count = |hooked| {
            let proxy = ProxySockets::OfUser(SHARED_USER);
            iptables(&Exclusions::default(), proxy, Version::V4, hooked).matches("-j SMIDGE_").count()
        };
        assert_eq!((count(false), count(true)), (2, 0));
    }
}
