//! Builds the part of the bootstrap by which a proxy pushes the statistics of its traffic to the control plane: OTLP over
//! the control plane's own cluster, so that each push carries the proxy's credential.
//!
//! Cumulative: each push is the whole state, so that nothing is lost when a replica ends, and any other may receive the
//! next one. `envoy::traffic` defines what is counted. Everything else that Envoy counts is not pushed.

use serde_json::{Value, json};

use crate::{envoy::traffic as counted, mesh::proxy::TrafficStats};

/// Interval of pushes, in seconds.
const PUSH_SECONDS: u32 = 10;
/// Time after which a series without traffic may be forgotten, in seconds; a multiple of the interval of pushes.
const EVICTION_SECONDS: u32 = 600;
/// Maximum number of series in one push; more follow in another.
const MAX_POINTS: u32 = 1_000;
/// Upper bounds of the buckets of latency, in milliseconds.
const BUCKETS_MS: [u32; 13] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// Builds the fields of the bootstrap that push over the cluster of this name.
pub(super) fn fields(cluster: &str, authority: &str, traffic: TrafficStats) -> [(&'static str, Value); 3] {
    let mut sink = json!({
        "@type": "type.googleapis.com/envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig",
        "grpc_service": {
            "envoy_grpc": {"cluster_name": cluster, "authority": authority},
            "timeout": "5s",
        },
        "custom_metric_conversions": conversions(),
    });
    // Envoy before 1.39 does not know the field.
    if let (TrafficStats::Bounded, Some(fields)) = (traffic, sink.as_object_mut()) {
        fields.insert("max_data_points_per_request".to_owned(), MAX_POINTS.into());
    }
    [
        ("stats_sinks", json!([{"name": "envoy.stat_sinks.open_telemetry", "typed_config": sink}])),
        ("stats_flush_interval", json!(format!("{PUSH_SECONDS}s"))),
        ("stats_eviction_interval", json!(format!("{EVICTION_SECONDS}s"))),
    ]
}

/// Builds the bounds of the histograms of traffic.
pub(super) fn buckets() -> Value {
    json!([{"match": {"prefix": format!("{}.", counted::PREFIX)}, "buckets": BUCKETS_MS}])
}

/// Builds the rules by which the statistics of traffic get their names, and all others are dropped.
fn conversions() -> Value {
    let named = [
        counted::INBOUND_REQUESTS,
        counted::INBOUND_LATENCY,
        counted::INBOUND_CONNECTIONS,
        counted::OUTBOUND_REQUESTS,
        counted::OUTBOUND_LATENCY,
        counted::OUTBOUND_REFUSED,
    ];
    let matchers: Vec<Value> = named.iter().map(|name| conversion(name)).collect();
    json!({
        "matcher_list": {"matchers": matchers},
        "on_no_match": {"action": {"name": "drop", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig.DropAction",
        }}},
    })
}

fn conversion(name: &str) -> Value {
    json!({
        "predicate": {"single_predicate": {
            "input": {"name": "name", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.stats.v3.StatFullNameMatchInput",
            }},
            "value_match": {"prefix": format!("{}.{name}.", counted::PREFIX)},
        }},
        "on_match": {"action": {"name": name, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig.ConversionAction",
            "metric_name": format!("{}_{name}", counted::PREFIX),
        }}},
    })
}
