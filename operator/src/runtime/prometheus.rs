//! Flags for what Prometheus reads of the mesh's traffic.
//!
//! Part of the settings of `smidge run`.

use crate::{admin::PrometheusReaders, traffic::exposition::NameSets};

/// Settings of Prometheus.
#[derive(Debug, Clone, clap::Args)]
pub struct Prometheus {
    /// Names under which Prometheus reads the traffic of the mesh: some of smidge, osm, istio, linkerd, or none.
    #[arg(
        long = "prometheus-names",
        env = "SMIDGE_PROMETHEUS_NAMES",
        value_name = "SETS",
        default_value = "smidge,osm,istio,linkerd"
    )]
    pub names: NameSets,
    /// Clients that may read the traffic of the mesh as metrics.
    #[arg(
        long = "prometheus-readers",
        env = "SMIDGE_PROMETHEUS_READERS",
        value_enum,
        default_value_t = PrometheusReaders::Network
    )]
    pub readers: PrometheusReaders,
    /// Show the traffic of each pod as well, under metrics of their own in the set smidge: smidge_pod_*.
    #[arg(
        long = "prometheus-pods",
        env = "SMIDGE_PROMETHEUS_PODS",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub pods: bool,
}
