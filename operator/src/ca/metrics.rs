//! Counters and gauges of the authorities.
//!
//! Registered by `runtime` under the prefix of the product; written by `authorities`, `source` and `serving`.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use time::OffsetDateTime;

/// Metrics of the authorities.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Leaves issued to proxies.
    pub leaves: Counter,
    /// Leaves that could not be issued.
    pub leaf_failures: Counter,
    /// Attempts to renew an intermediate or a serving certificate that failed.
    pub renewal_failures: Family<Certificate, Counter>,
    /// End of validity of each certificate of the control plane, in seconds since 1970.
    expiry: Family<Certificate, Gauge>,
}

/// Labels of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Certificate {
    /// The authority: `control-plane`, `workloads`, `webhooks` or `machines`.
    pub authority: &'static str,
    /// Position in the chain: `root`, `issuer` or `serving`.
    pub certificate: &'static str,
}

impl Metrics {
    /// Registers new metrics in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { leaves, leaf_failures, renewal_failures, expiry } = metrics.clone();
        registry.register("leaf_certificates_issued", "Leaf certificates issued to proxies", leaves);
        let help = "Leaf certificates that could not be issued; the proxy keeps the one that it has";
        registry.register("leaf_certificate_failures", help, leaf_failures);
        let help = "Failed attempts to renew a certificate of the control plane";
        registry.register("certificate_renewal_failures", help, renewal_failures);
        let help = "End of the validity of a certificate of the control plane, in seconds since 1970";
        registry.register_with_unit("certificate_expiry_timestamp", help, Unit::Seconds, expiry);
        metrics
    }

    /// Records the end of validity of a certificate. From then on its failed renewals exist, at zero.
    pub fn ends(&self, authority: &'static str, certificate: &'static str, at: OffsetDateTime) {
        let labels = Certificate { authority, certificate };
        self.expiry.get_or_create(&labels).set(at.unix_timestamp());
        drop(self.renewal_failures.get_or_create(&labels));
    }

    /// Counts a failed renewal.
    pub fn renewal_failed(&self, authority: &'static str, certificate: &'static str) {
        self.renewal_failures.get_or_create(&Certificate { authority, certificate }).inc();
    }
}
