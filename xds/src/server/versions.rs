//! Counts connected proxies by the version of Envoy that each names, as a metric.
//!
//! Registered by the caller under its own prefix; read from `proxies` at each scrape. A version is a claim of a client, so
//! the number of values is bounded: those of plausible versions, and of these the most frequent.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use serde::{Serialize, Serializer};

use super::proxies::Proxies;
use crate::delta::Node;

/// Maximum number of versions with a value of their own; others are counted together, as `other`.
pub const SHOWN: usize = 16;
/// Maximum of each part of a version that is shown.
const PARTS: [u32; 3] = [9, 199, 99];

/// Version of Envoy: major, minor and patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvoyVersion([u32; 3]);

impl EnvoyVersion {
    /// Returns the version that a node names, if any.
    pub(super) fn named(node: &Node) -> Option<Self> {
        let version = node.build.as_ref()?.version.as_ref()?;
        Some(Self([version.major, version.minor, version.patch]))
    }

    fn is_plausible(self) -> bool {
        self.0.iter().zip(PARTS).all(|(part, most)| *part <= most)
    }
}

impl fmt::Display for EnvoyVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

impl Serialize for EnvoyVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Debug)]
struct ByVersion(Proxies);

/// Registers `proxies`: the connected proxies by version of Envoy. The caller chooses the prefix.
pub fn register(registry: &mut Registry, proxies: Proxies) {
    registry.register_collector(Box::new(ByVersion(proxies)));
}

impl Collector for ByVersion {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Connected proxies, by the version of Envoy that each names";
        let mut metric = encoder.encode_descriptor("proxies", help, None, MetricType::Gauge)?;
        for (version, count) in shown(self.0.versions()) {
            ConstGauge::new(count).encode(metric.encode_family(&[("version", version)])?)?;
        }
        Ok(())
    }
}

/// Returns the values of the label with their counts. `other` and `unknown` are always there.
fn shown(versions: BTreeMap<Option<EnvoyVersion>, usize>) -> Vec<(String, usize)> {
    let (mut other, mut unknown) = (0_usize, 0);
    let mut named = Vec::new();
    for (version, count) in versions {
        match version {
            Some(version) if version.is_plausible() => named.push((version, count)),
            Some(_) => other += count,
            None => unknown = count,
        }
    }
    named.sort_by_key(|(version, count)| Reverse((*count, *version)));
    other += named.iter().skip(SHOWN).map(|(_, count)| count).sum::<usize>();
    named.truncate(SHOWN);
    let mut shown: Vec<_> = named.into_iter().map(|(version, count)| (version.to_string(), count)).collect();
    shown.extend([("other".to_owned(), other), ("unknown".to_owned(), unknown)]);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_that_name_many_versions_make_few_values() {
        let frequent = EnvoyVersion([1, 40, 0]);
        let versions = (0..10_000).map(|n| (Some(EnvoyVersion([n % 20, n, n])), 1));
        let mut versions: BTreeMap<_, _> = versions.collect();
        versions.extend([(Some(frequent), 2), (None, 3)]);
        let shown = shown(versions);
        assert_eq!(shown.len(), SHOWN + 2);
        assert_eq!(shown.first(), Some(&("1.40.0".to_owned(), 2)));
        let sum: usize = shown.iter().map(|(_, count)| count).sum();
        assert_eq!(sum, 10_005, "every proxy counts");
        let of = |word: &str| shown.iter().find(|(value, _)| value == word).map(|(_, count)| *count);
        assert_eq!((of("unknown"), of("other")), (Some(3), Some(10_000 - SHOWN + 1)));
    }
}
