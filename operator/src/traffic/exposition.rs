//! Shows the counters of the store as metrics of Prometheus, under the sets of names that are on.
//!
//! Registered by `runtime`; the page is one of `admin`. The names and labels are those of
//! `smidge_traffic_metrics::families`. Each replica shows what its own proxies have pushed, so all are scraped, and
//! queries add them up.

use std::{fmt, str::FromStr, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};
use smidge_traffic_metrics::{
    families::{FAMILIES, Family, Names, ended::Snapshot},
    series::{Histogram, Value},
    traffic::BOUNDS_MS,
};

use super::Receiver;

/// Sets of names under which traffic is shown. In settings: words separated by commas, or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameSets(pub Vec<Names>);

/// Error of a setting of names.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{word:?} is no set of names: expected some of smidge, osm, istio, linkerd, separated by commas, or none"
)]
pub struct NameSetsError {
    word: String,
}

impl FromStr for NameSets {
    type Err = NameSetsError;

    fn from_str(text: &str) -> Result<Self, NameSetsError> {
        if text.trim() == "none" {
            return Ok(Self(Vec::new()));
        }
        let set = |word: &str| {
            let word = word.trim();
            let found = Names::ALL.into_iter().find(|names| names.as_str() == word);
            found.ok_or_else(|| NameSetsError { word: word.to_owned() })
        };
        text.split(',').map(set).collect::<Result<_, _>>().map(Self)
    }
}

/// The counters, as a collector.
struct Exposition {
    receiver: Arc<Receiver>,
    names: NameSets,
    cluster_domain: String,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exposition").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Returns the registry of the traffic. `cluster_domain` completes the names of Services, for example `cluster.local`.
pub fn registry(receiver: Arc<Receiver>, names: NameSets, cluster_domain: String) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition { receiver, names, cluster_domain }));
    registry
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if self.names.0.is_empty() {
            return Ok(());
        }
        let snapshot = self.receiver.counters();
        let families = FAMILIES.iter().filter(|family| self.names.0.contains(&family.names));
        families.into_iter().try_for_each(|family| self.family(family, &snapshot, &mut encoder))
    }
}

impl Exposition {
    fn family(
        &self,
        family: &Family,
        snapshot: &Snapshot,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> fmt::Result {
        let samples = family.samples(snapshot, &self.cluster_domain);
        if samples.is_empty() {
            return Ok(());
        }
        let form = if family.is_histogram { MetricType::Histogram } else { MetricType::Counter };
        let mut metric = encoder.encode_descriptor(family.name, family.help, None, form)?;
        for (labels, value) in &samples {
            let mut sample = metric.encode_family(labels)?;
            match value {
                Value::Count(count) => sample.encode_counter::<NoLabelSet, _, u64>(count, None)?,
                Value::Histogram(histogram) => {
                    let (sum, count, buckets) = buckets(histogram);
                    sample.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                }
            }
        }
        Ok(())
    }
}

/// Maximum number of values in a bucket that is shown: the encoder adds all buckets up, and a proxy may report any number.
const MOST: u64 = u64::MAX >> 8;

/// Returns sum, number and buckets with their upper bounds, in milliseconds. The encoder makes the buckets cumulative.
#[expect(clippy::cast_precision_loss, reason = "bounds and sums are far below 2^52")]
fn buckets(histogram: &Histogram) -> (f64, u64, Vec<(f64, u64)>) {
    let bounds = BOUNDS_MS.iter().map(|bound| *bound as f64).chain([f64::INFINITY]);
    let counts = histogram.buckets.map(|count| count.min(MOST));
    (histogram.sum as f64 / 1_000.0, counts.iter().sum(), bounds.zip(counts).collect())
}

#[cfg(test)]
mod tests {
    use smidge_traffic_metrics::traffic::BUCKETS;

    use super::*;

    #[test]
    fn buckets_that_a_proxy_made_up_do_not_overflow() {
        let (_, count, buckets) = buckets(&Histogram { buckets: [u64::MAX; BUCKETS], sum: u64::MAX });
        let sum = buckets.iter().try_fold(0_u64, |sum, (_, count)| sum.checked_add(*count));
        assert_eq!(sum, Some(count));
    }
}
