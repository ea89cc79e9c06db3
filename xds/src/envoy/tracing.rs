//! Builds the tracer of a sidecar: a span for each sampled request that a connection manager handles, sent by OTLP to the
//! collector of the mesh.
//!
//! Used by `filter` for every connection manager; `cluster` is that of the collector. A request through two sidecars has two
//! spans, `egress` of the caller's and `ingress` of the server's, in the trace that the header `traceparent` names (W3C Trace
//! Context). Envoy samples by the OpenTelemetry sampler alone: its own decision depends on a request id, which callers choose.

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, CustomClusterType},
            },
            core::v3::{
                Address, GrpcService, Http2ProtocolOptions, SocketAddress, TypedExtensionConfig, address,
                grpc_service::{EnvoyGrpc, TargetSpecifier},
                socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
            trace::v3::{
                OpenTelemetryConfig,
                tracing::{Http, http},
            },
        },
        extensions::{
            clusters::{
                common::dns::v3::DnsLookupFamily,
                dns::v3::{DnsCluster, dns_cluster::RefreshRate},
            },
            filters::network::http_connection_manager::v3::{
                RequestIdExtension, http_connection_manager::Tracing as ManagerTracing,
            },
            request_id::uuid::v3::UuidRequestIdConfig,
            tracers::opentelemetry::{
                resource_detectors::v3::EnvironmentResourceDetectorConfig,
                samplers::v3::{ParentBasedSamplerConfig, TraceIdRatioBasedSamplerConfig},
            },
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
                },
            },
        },
        r#type::v3::{FractionalPercent, fractional_percent},
    },
    google::protobuf::Any,
};

use super::{names, wire};
use crate::mesh::settings::{Share, Tracing};

/// Maximum number of spans that a proxy holds for the collector; others are dropped. It bounds what callers can cause: the
/// flag of a caller's own trace makes its requests sampled.
const MAX_SPANS: u32 = 1_024;
/// Maximum length of the URL in a span, in bytes.
const MAX_URL: u32 = 512;

/// Builds the tracing of a connection manager.
pub fn manager(tracing: Option<&Tracing>) -> Option<ManagerTracing> {
    let tracer = OpenTelemetryConfig {
        grpc_service: Some(GrpcService {
            timeout: wire::seconds(5),
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: names::TRACING.to_owned(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }),
        // The name of the workload is in the environment of the proxy, as listeners are shared by workloads.
        resource_detectors: vec![wire::extension(
            "envoy.tracers.opentelemetry.resource_detectors.environment",
            EnvironmentResourceDetectorConfig {},
        )],
        sampler: Some(sampler(tracing?.share)),
        max_cache_size: wire::number(MAX_SPANS),
        ..OpenTelemetryConfig::default()
    };
    let provider = Http {
        name: "envoy.tracers.opentelemetry".to_owned(),
        config_type: Some(http::ConfigType::TypedConfig(wire::any(&tracer))),
    };
    Some(ManagerTracing {
        max_path_tag_length: wire::number(MAX_URL),
        provider: Some(provider),
        ..ManagerTracing::default()
    })
}

/// Builds the request id of a connection manager that traces. By default, Envoy's own decision depends on the request id, which
/// callers choose and the mesh does not write, and since 1.40 a request that it does not trace is not sampled. With this
/// its own decision is always to trace, and the sampler decides.
pub fn request_id(tracing: Option<&Tracing>) -> Option<RequestIdExtension> {
    tracing?;
    let config = UuidRequestIdConfig {
        pack_trace_reason: wire::flag(false),
        use_request_id_for_trace_sampling: wire::flag(false),
    };
    Some(RequestIdExtension { typed_config: Some(wire::any(&config)) })
}

/// Builds the sampler: a trace that others have begun is continued as they decided, and this share of all others begins. The
/// share is one of trace ids, so that all proxies decide alike.
fn sampler(share: Share) -> TypedExtensionConfig {
    let sampling_percentage = Some(FractionalPercent {
        numerator: share.millionths(),
        denominator: fractional_percent::DenominatorType::Million as i32,
    });
    let root = wire::extension(
        "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        TraceIdRatioBasedSamplerConfig { sampling_percentage },
    );
    wire::extension(
        "envoy.tracers.opentelemetry.samplers.parent_based",
        ParentBasedSamplerConfig { wrapped_sampler: Some(root) },
    )
}

/// Builds the cluster of the collector: gRPC in plaintext, at the addresses that DNS has for it.
pub fn cluster(tracing: &Tracing) -> Cluster {
    let Tracing { host, port, share: _ } = tracing;
    let address = SocketAddress {
        address: host.clone(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(*port))),
        ..SocketAddress::default()
    };
    let endpoint = Endpoint {
        address: Some(Address { address: Some(address::Address::SocketAddress(address)) }),
        ..Endpoint::default()
    };
    let endpoints = LocalityLbEndpoints {
        lb_endpoints: vec![LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
            ..LbEndpoint::default()
        }],
        ..LocalityLbEndpoints::default()
    };
    let http2 = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
        })),
        ..HttpProtocolOptions::default()
    };
    let dns = DnsCluster {
        dns_refresh_rate: wire::seconds(30),
        // A name that does not exist yet is looked up less and less often.
        dns_failure_refresh_rate: Some(RefreshRate {
            base_interval: wire::seconds(5),
            max_interval: wire::seconds(60),
        }),
        dns_lookup_family: DnsLookupFamily::V4Preferred as i32,
        ..DnsCluster::default()
    };
    let kind =
        CustomClusterType { name: "envoy.clusters.dns".to_owned(), typed_config: Some(wire::any(&dns)) };
    let protocol: (String, Any) =
        ("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), wire::any(&http2));
    Cluster {
        name: names::TRACING.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(kind)),
        connect_timeout: wire::seconds(5),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: names::TRACING.to_owned(),
            endpoints: vec![endpoints],
            ..ClusterLoadAssignment::default()
        }),
        // The map has one entry, so its bytes have one order.
        typed_extension_protocol_options: [protocol].into(),
        ..Cluster::default()
    }
}
