//! Counts the results of authenticating streams.
//!
//! Registered by `runtime` under the prefix of the product; written by `auth`.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::reason::Reason;

/// Metrics of authentication.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    streams: Family<Judged, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Judged {
    result: &'static str,
}

impl Metrics {
    /// Registers new metrics in `registry`. Every result exists from the start, at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Streams of proxies by what was made of their token or certificate: Admitted, or the reason why not";
        registry.register("stream_authentications", help, metrics.streams.clone());
        drop(metrics.streams.get_or_create(&Judged { result: "Admitted" }));
        for reason in Reason::ALL {
            drop(metrics.streams.get_or_create(&Judged { result: reason.as_str() }));
        }
        metrics
    }

    /// Counts one stream.
    pub fn judged(&self, result: Result<(), Reason>) {
        let result = result.map_or_else(Reason::as_str, |()| "Admitted");
        self.streams.get_or_create(&Judged { result }).inc();
    }
}
