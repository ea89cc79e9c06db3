//! Ports of the proxy itself, the same in every pod, what its version can count, and the families of its addresses.
//!
//! Used by configuration, injection and redirection. Does not define what is served on the ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

/// Port of outbound connections, which are redirected from the application.
pub const OUTBOUND_PORT: u16 = 15001;
/// Port of inbound connections, which are redirected from other pods and hosts.
pub const INBOUND_PORT: u16 = 15006;
/// Port of readiness, and of the probes and HTTP hooks of the application.
pub const READINESS_PORT: u16 = 15021;
/// Port of metrics.
pub const STATS_PORT: u16 = 15090;

/// All ports of the proxy. None is ever a port of the application: a workload that declares one would expose the
/// proxy to its callers.
pub const PORTS: [u16; 4] = [OUTBOUND_PORT, INBOUND_PORT, READINESS_PORT, STATS_PORT];

/// Statistics of traffic that a proxy can count, with labels for the peer of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub enum TrafficStats {
    /// None: Envoy before 1.37, or of an unknown version.
    #[default]
    None,
    /// Without a maximum number of series: Envoy 1.37 and 1.38.
    Unbounded,
    /// With a maximum number of series: Envoy 1.39 and later.
    Bounded,
}

impl TrafficStats {
    /// Every variant.
    pub const ALL: [Self; 3] = [Self::None, Self::Unbounded, Self::Bounded];

    /// Returns true if nothing is counted.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Returns the statistics of an Envoy of this version, written `1.40` or `1.40.0`.
    pub fn of_version(version: &str) -> Self {
        let mut parts = version.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next()) {
            (Some(Ok(1)), Some(Ok(37..=38))) => Self::Unbounded,
            (Some(Ok(1)), Some(Ok(39..))) | (Some(Ok(2..)), Some(Ok(_))) => Self::Bounded,
            _ => Self::None,
        }
    }
}

/// IP families of an instance, which are those of its addresses: its proxy listens at no address of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub enum Families {
    /// IPv4 alone. Also of an instance whose addresses are not known yet: its network may not have IPv6, and its proxy would
    /// refuse a listener at an address of IPv6.
    #[default]
    V4,
    /// IPv6 alone.
    V6,
    /// Both, as in dual-stack clusters.
    Both,
}

impl Families {
    /// Returns the families of these addresses.
    pub fn of(addresses: &[IpAddr]) -> Self {
        match (addresses.iter().any(IpAddr::is_ipv4), addresses.iter().any(IpAddr::is_ipv6)) {
            (_, false) => Self::V4,
            (false, true) => Self::V6,
            (true, true) => Self::Both,
        }
    }

    /// Returns true for IPv4 alone.
    pub fn is_v4(&self) -> bool {
        *self == Self::V4
    }

    /// Returns the loopback address of each family, IPv4 first.
    pub fn loopback(self) -> impl Iterator<Item = IpAddr> {
        self.each(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
    }

    /// Returns the address that means all addresses of each family, IPv4 first.
    pub fn unspecified(self) -> impl Iterator<Item = IpAddr> {
        self.each(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
    }

    fn each(self, v4: Ipv4Addr, v6: Ipv6Addr) -> impl Iterator<Item = IpAddr> {
        let v4 = (self != Self::V6).then_some(IpAddr::V4(v4));
        v4.into_iter().chain((self != Self::V4).then_some(IpAddr::V6(v6)))
    }
}

/// Kind of a proxy: the statistics that it can count, and the families at which it listens.
pub type ProxyKind = (TrafficStats, Families);

/// Returns the version in the tag of an image of Envoy, for example `1.40.0` of `envoyproxy/envoy:distroless-v1.40.0`;
/// `None` if the tag contains none, as where only a digest is given.
pub fn version_of_image(image: &str) -> Option<&str> {
    let (_, last) = image.rsplit_once('/').unwrap_or(("", image));
    let (_, tag) = last.split('@').next()?.split_once(':')?;
    let numbered = |part: &&str| {
        let mut numbers = part.split('.');
        numbers.clone().count() >= 2 && numbers.all(|number| number.parse::<u32>().is_ok())
    };
    tag.split('-').map(|part| part.strip_prefix('v').unwrap_or(part)).find(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_name_their_version() {
        let of = version_of_image;
        assert_eq!(of("envoyproxy/envoy:distroless-v1.40.0"), Some("1.40.0"));
        assert_eq!(of("registry:5000/envoy:v1.37-latest@sha256:abc"), Some("1.37"));
        assert_eq!(of("registry:5000/envoy"), None);
        assert_eq!(of("envoy:latest"), None);
        assert_eq!(of("envoy@sha256:abc"), None);
    }

    #[test]
    fn addresses_decide_the_families() {
        let of = |texts: &[&str]| {
            let addresses: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
            Families::of(&addresses)
        };
        assert_eq!(of(&[]), Families::V4);
        assert_eq!(of(&["10.0.0.1"]), Families::V4);
        assert_eq!(of(&["fd00::1"]), Families::V6);
        assert_eq!(of(&["fd00::1", "10.0.0.1"]), Families::Both);
        let text = |addresses: Vec<IpAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(Families::V4.loopback().collect()), ["127.0.0.1"]);
        assert_eq!(text(Families::V6.loopback().collect()), ["::1"]);
        assert_eq!(text(Families::Both.unspecified().collect()), ["0.0.0.0", "::"]);
    }

    #[test]
    fn versions_decide_what_is_counted() {
        let of = TrafficStats::of_version;
        assert_eq!(of("1.36.4"), TrafficStats::None);
        assert_eq!(of("1.37"), TrafficStats::Unbounded);
        assert_eq!(of("1.38.3"), TrafficStats::Unbounded);
        assert_eq!(of("1.40.0"), TrafficStats::Bounded);
        assert_eq!(of("2.0"), TrafficStats::Bounded);
        assert_eq!(of("dev"), TrafficStats::None);
    }
}
