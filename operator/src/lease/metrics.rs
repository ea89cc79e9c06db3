//! Shows whether this replica leads, as a metric.
//!
//! Impure. Registered by `runtime`; read from the channel on which `candidate` publishes the leader.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::gauge::ConstGauge,
    registry::Registry,
};
use tokio::sync::watch;

use super::Leader;

#[derive(Debug)]
struct Leads(watch::Receiver<Leader>);

/// Registers `leader`: 1 while this replica leads, else 0. The caller chooses the prefix.
pub fn register(registry: &mut Registry, leader: watch::Receiver<Leader>) {
    registry.register_collector(Box::new(Leads(leader)));
}

impl Collector for Leads {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let leads = ConstGauge::new(i64::from(*self.0.borrow() == Leader::Me));
        let help = "1 if this replica leads: it writes statuses and Events";
        leads.encode(encoder.encode_descriptor("leader", help, None, leads.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn one_is_the_leader_alone() {
        let (sender, leader) = watch::channel(Leader::None);
        let mut registry = Registry::with_prefix("smidge");
        register(&mut registry, leader);
        let shown = |leader| {
            sender.send_replace(leader);
            let mut page = String::new();
            encode(&mut page, &registry).unwrap();
            page.lines().find_map(|line| line.strip_prefix("smidge_leader ").map(str::to_owned))
        };
        assert_eq!(shown(Leader::None).as_deref(), Some("0"));
        assert_eq!(shown(Leader::Other).as_deref(), Some("0"));
        assert_eq!(shown(Leader::Me).as_deref(), Some("1"));
    }
}
