//! Ports of the proxy itself, the same in every pod, and what its version can count.
//!
//! Used by configuration, injection and redirection. Does not define what is served on the ports.

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
