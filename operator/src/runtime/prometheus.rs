//! Flags for what Prometheus reads of the mesh's traffic, and for Prometheus as the source of TrafficMetrics.
//!
//! Part of the settings of `smidge run`; `runtime::kubernetes` starts the source.

use std::{path::PathBuf, sync::Arc};

use smidge_traffic_metrics::families::Names;

use super::{Error, Settings, switch};
use crate::{
    admin::PrometheusReaders,
    traffic::{
        Receiver,
        exposition::NameSets,
        prometheus::{self, PrometheusSource, url::PrometheusUrl},
    },
};

/// Settings of Prometheus.
#[derive(Debug, Clone, clap::Args)]
#[command(mut_args(switch::named(&["prometheus_pods"])))]
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
    #[arg(id = "prometheus_pods", long = "prometheus-pods", env = "SMIDGE_PROMETHEUS_PODS")]
    pub pods: bool,
    /// Address of a Prometheus that scrapes every replica: TrafficMetrics are then what it has, not what the replicas have
    /// kept. http or https, with a prefix of paths if it has one.
    #[arg(
        long = "prometheus-url",
        env = "SMIDGE_PROMETHEUS_URL",
        value_name = "URL",
        requires = "traffic_api_listen"
    )]
    pub url: Option<PrometheusUrl>,
    /// File with the bearer token for that Prometheus. It is read for each question.
    #[arg(long = "prometheus-token", env = "SMIDGE_PROMETHEUS_TOKEN", value_name = "FILE", requires = "url")]
    pub token: Option<PathBuf>,
    /// File with PEM certificates of the authorities that sign the certificate of that Prometheus; https needs it. It is read
    /// for each question.
    #[arg(long = "prometheus-ca", env = "SMIDGE_PROMETHEUS_CA", value_name = "FILE", requires = "url")]
    pub ca: Option<PathBuf>,
}

/// Returns Prometheus as the source of traffic, if it is one.
pub(super) fn source(
    settings: &Settings,
    receiver: &Arc<Receiver>,
) -> Result<Option<PrometheusSource>, Error> {
    let Prometheus { names, pods, url, token, ca, .. } = settings.prometheus.clone();
    let Some(url) = url else { return Ok(None) };
    check(&names, &url, ca.is_some()).map_err(Error::Prometheus)?;
    let settings = prometheus::Settings { url, token, ca, pods, cluster: settings.cluster_name.clone() };
    Ok(Some(PrometheusSource::new(settings, Arc::clone(receiver))))
}

/// Returns the first problem of the settings together.
fn check(names: &NameSets, url: &PrometheusUrl, has_ca: bool) -> Result<(), &'static str> {
    match (names.0.contains(&Names::Smidge), url.is_https && !has_ca) {
        (false, _) => Err("--prometheus-url needs the names smidge in --prometheus-names, which it queries"),
        (_, true) => Err(
            "--prometheus-url with https needs --prometheus-ca: a file with PEM certificates of the authorities \
             that sign its certificate",
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_needs_its_names_and_https_its_authorities() {
        let of =
            |names: &str, url: &str, has_ca| check(&names.parse().unwrap(), &url.parse().unwrap(), has_ca);
        let refused = |names: &str, url: &str| of(names, url, false).unwrap_err();
        assert!(refused("osm,istio", "http://p").contains("--prometheus-names"));
        assert!(refused("none", "http://p").contains("--prometheus-names"));
        assert!(refused("smidge", "https://p").contains("--prometheus-ca"));
        assert_eq!(of("osm,smidge", "http://p", false), Ok(()));
        assert_eq!(of("smidge", "https://p", true), Ok(()));
    }
}
