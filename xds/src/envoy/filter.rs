//! Network and HTTP filters: the connection manager of either side, the TCP proxy, and the filters that ECDS provides.
//!
//! Nothing in here depends on policy: filters that policy changes are only named here and served elsewhere, as a
//! changed filter would close the connections of its chain.

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{HttpProtocolOptions, TypedExtensionConfig},
            listener::v3::{Filter, filter},
            route::v3::RouteConfiguration,
        },
        extensions::filters::{
            http::router::v3::Router,
            network::{
                http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds,
                    http_connection_manager::{
                        PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation,
                        UpgradeConfig,
                    },
                    http_filter,
                },
                tcp_proxy::v3::{
                    TcpProxy,
                    tcp_proxy::{
                        ClusterSpecifier, TcpAccessLogOptions, WeightedCluster,
                        weighted_cluster::ClusterWeight,
                    },
                },
            },
        },
    },
    google::protobuf::Duration,
};
use prost::{Message, Name};

use super::{access_log, answer, audit, names, rbac, request, route, tracing, traffic, wire};
use crate::mesh::{
    id::ServiceId,
    proxy::TrafficStats,
    route::{Backend, RouteRule},
    settings::Settings,
};

const HTTP: &str = "envoy.filters.network.http_connection_manager";
const TCP: &str = "envoy.filters.network.tcp_proxy";
/// Maximum number of attempts to connect to an endpoint of a Service, each of which the balancer chooses anew. It prefers the
/// endpoint with the fewest connections, so of two it chooses the one that refuses three times of four. One that
/// refuses costs no time, one that does not answer costs the time limit of connecting each time.
const CONNECT_ATTEMPTS: u32 = 10;

/// Options of filters that a whole mesh has, and those of one proxy's version.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The settings of the mesh.
    pub settings: &'a Settings,
    /// The statistics of traffic that the proxy can count.
    pub traffic: TrafficStats,
}

/// Answer to the calls that a caller's own proxy does not forward.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// Prefix of the statistics of these calls.
    pub name: &'static str,
    /// Status of a request.
    pub code: u32,
    /// Body of the answer to a request.
    pub text: &'static str,
    /// True if policy is the reason.
    pub by_policy: bool,
}

/// Builds the filter for the requests of a Service's port, with the route of that name.
pub fn outbound_http(service: &ServiceId, port: u16, settings: &Settings) -> Filter {
    let name = names::service_port(service, port);
    let rds = Rds { config_source: wire::ads(), route_config_name: name };
    let manager = HttpConnectionManager {
        // A route by matches must read the path that the server will judge, which the server normalises anyway. The
        // server refuses escaped slashes.
        normalize_path: wire::flag(true),
        merge_slashes: true,
        early_header_mutation_extensions: vec![request::early()],
        http_protocol_options: Some(request::http1_of_client(&format!(
            "{}.{}",
            service.name, service.namespace
        ))),
        local_reply_config: Some(answer::of_caller()),
        ..manager(names::OUTBOUND, RouteSpecifier::Rds(rds), vec![discovered_router()], settings)
    };
    typed(HTTP, &manager)
}

/// Builds the filter that gives one answer to every request and then ends the connection: a caller that calls again
/// finds the listener that a grant may have added since.
pub fn refuse_http(refusal: &Refusal, options: Options<'_>) -> Filter {
    refuse(refusal, None, options)
}

fn refuse(refusal: &Refusal, idle_timeout: Option<Duration>, options: Options<'_>) -> Filter {
    let Options { settings, traffic } = options;
    let Refusal { name, code, text, by_policy } = *refusal;
    let logged = access_log::refused_requests(settings.access_logs, by_policy);
    let manager = HttpConnectionManager {
        common_http_protocol_options: Some(HttpProtocolOptions {
            max_requests_per_connection: wire::number(1),
            idle_timeout,
            ..request::limits(settings)
        }),
        local_reply_config: Some(answer::of_refusal(code, text)),
        access_log: traffic::refused_requests(traffic).into_iter().chain(logged).collect(),
        ..manager(name, RouteSpecifier::RouteConfig(route::none(name)), vec![router()], settings)
    };
    typed(HTTP, &manager)
}

/// Builds the filter that does the same where the protocol is not known. A client that waits for the server to send
/// first is closed after a second; bytes that are not HTTP are closed at once.
pub fn refuse_any(refusal: &Refusal, options: Options<'_>) -> Filter {
    refuse(refusal, wire::seconds(1), options)
}

/// Builds the filter that closes every connection of a caller whose own proxy refuses it.
pub fn refuse_tcp(refusal: &Refusal, options: Options<'_>) -> Filter {
    let logged = access_log::refused_connections(options.settings.access_logs, refusal.by_policy);
    let access_log = traffic::refused_connections(options.traffic).into_iter().chain(logged).collect();
    typed(TCP, &TcpProxy { access_log, ..tcp_proxy(names::BLACKHOLE) })
}

/// Builds the filter for the requests to the workload's own port, which are authorised first. `plain` is true for callers
/// in plaintext, who have no identity.
pub fn inbound_http(port: u16, plain: bool, options: Options<'_>) -> Filter {
    let Options { settings, traffic } = options;
    let name = names::inbound_http(port);
    let mut filters = vec![
        request::kept_state(plain),
        request::own_headers(settings.names_caller && !plain),
        request::refuse_ambiguous(),
    ];
    if !traffic.is_none() {
        // Before the rules, so that refused requests have a route as well.
        filters.push(discovered_http(names::INBOUND_ROUTES, &rbac::routes(std::iter::empty())));
    }
    filters.extend([discovered_http(&name, &rbac::http_denial()), router()]);
    let routes: RouteConfiguration = route::inbound();
    let manager = HttpConnectionManager {
        // The rules must judge the path that the workload will read.
        normalize_path: wire::flag(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::RejectRequest as i32,
        common_http_protocol_options: Some(request::strict_names(settings)),
        local_reply_config: Some(answer::of_workload(plain)),
        access_log: std::iter::once(audit::http())
            .chain(traffic::inbound_requests(traffic))
            .chain(access_log::inbound_requests(settings.access_logs))
            .collect(),
        ..manager(&name, RouteSpecifier::RouteConfig(routes), filters, settings)
    };
    typed(HTTP, &manager)
}

/// Builds the filter that authorises the caller of a TCP port.
pub fn inbound_rbac(port: u16) -> Filter {
    discovered(&names::inbound_tcp(port), Some(&rbac::network_denial()))
}

/// Builds the filter that lets authorised connections through to the workload.
pub fn inbound_tcp(options: Options<'_>) -> Filter {
    typed(TCP, &inbound_proxy(options))
}

/// Builds the filter that lets plaintext connections through to the workload, or not, as the extension of that name
/// defines: their caller has no identity, and a server that speaks first would have sent data before the rules see a
/// byte.
pub fn inbound_plain(port: u16) -> Filter {
    discovered(&names::plain_filter(port), Some(&tcp_proxy(names::BLACKHOLE)))
}

/// Builds the extension to which `inbound_plain` refers.
pub fn plain(port: u16, is_let_in: bool, options: Options<'_>) -> TypedExtensionConfig {
    let refused = || {
        let access_log = access_log::plain_connections(options.settings.access_logs).into_iter().collect();
        TcpProxy { access_log, ..tcp_proxy(names::BLACKHOLE) }
    };
    let proxy = if is_let_in { inbound_proxy(options) } else { refused() };
    wire::extension(&names::plain_filter(port), proxy)
}

fn inbound_proxy(options: Options<'_>) -> TcpProxy {
    TcpProxy {
        access_log: std::iter::once(audit::tcp())
            .chain(traffic::inbound_connections(options.traffic))
            .chain(access_log::inbound_connections(options.settings.access_logs))
            .collect(),
        access_log_options: Some(TcpAccessLogOptions {
            access_log_flush_interval: wire::seconds(audit::TCP_FLUSH_SECONDS),
            ..TcpAccessLogOptions::default()
        }),
        ..tcp_proxy(names::INBOUND)
    }
}

/// Builds the filter that forwards the connections of a Service's TCP port, as the extension of that name defines.
pub fn outbound_tcp(service: &ServiceId, port: u16) -> Filter {
    discovered(&names::outbound_filter(service, port), Some(&tcp_proxy(names::BLACKHOLE)))
}

/// Builds the filter that forwards every connection to one cluster.
pub fn tcp(cluster: &str) -> Filter {
    typed(TCP, &tcp_proxy(cluster))
}

/// Builds the extension to which `outbound_tcp` refers. Envoy refuses a weight of 0, so such a backend is left out.
pub fn split(
    service: &ServiceId,
    port: u16,
    exact: bool,
    rules: &[RouteRule],
    settings: &Settings,
) -> TypedExtensionConfig {
    // TCP has nothing that a rule could match: its rule is the last one.
    let backends: &[Backend] = rules.last().map_or(&[], |rule| &rule.backends);
    let weighted: Vec<ClusterWeight> = backends
        .iter()
        .zip(route::weights(backends))
        .filter(|(_, weight)| *weight > 0)
        .map(|(backend, weight)| ClusterWeight {
            name: names::backend(service, port, exact, backend),
            weight,
            ..ClusterWeight::default()
        })
        .collect();
    let proxy = match weighted.as_slice() {
        [] => tcp_proxy(names::BLACKHOLE),
        [one] => tcp_proxy(&one.name),
        _ => TcpProxy {
            cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters: weighted,
            })),
            ..tcp_proxy("")
        },
    };
    let name = names::outbound_filter(service, port);
    let access_log = access_log::outbound_connections(settings.access_logs).into_iter().collect();
    let proxy = TcpProxy {
        stat_prefix: names::OUTBOUND.to_owned(),
        access_log,
        // No byte of the client is sent before the connection and its handshake have succeeded.
        max_connect_attempts: wire::number(CONNECT_ATTEMPTS),
        ..proxy
    };
    wire::extension(&name, proxy)
}

fn tcp_proxy(cluster: &str) -> TcpProxy {
    TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        // A connection may be idle for as long as both ends want; keepalives detect dead peers.
        idle_timeout: wire::seconds(0),
        ..TcpProxy::default()
    }
}

fn manager(
    name: &str,
    routes: RouteSpecifier,
    http_filters: Vec<HttpFilter>,
    settings: &Settings,
) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: name.to_owned(),
        http_filters,
        http_protocol_options: Some(request::http1_of_client("localhost")),
        // The server decides whether it wants a body, and its other interim responses (early hints) pass as well.
        proxy_100_continue: true,
        common_http_protocol_options: Some(request::limits(settings)),
        max_request_headers_kb: wire::number(settings.max_head_kib),
        // The proxy is not the server: the workload's own `server` header stays, and none is added.
        server_header_transformation: ServerHeaderTransformation::PassThrough as i32,
        // Streams may be idle for as long as both ends want.
        stream_idle_timeout: wire::seconds(0),
        // A hop inside the mesh is not an edge: the edge determined the origin of the request.
        use_remote_address: wire::flag(false),
        generate_request_id: wire::flag(false),
        tracing: tracing::manager(settings.tracing.as_ref()),
        request_id_extension: tracing::request_id(settings.tracing.as_ref()),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: request::WEBSOCKET.to_owned(),
            ..UpgradeConfig::default()
        }],
        route_specifier: Some(routes),
        ..HttpConnectionManager::default()
    }
}

fn router() -> HttpFilter {
    http_filter("envoy.filters.http.router", &plain_router())
}

fn plain_router() -> Router {
    Router { suppress_envoy_headers: true, ..Router::default() }
}

/// Builds the filter that forwards the requests of a Service's port, as the extension of that name defines: one for all
/// Services, so that what it counts is in one place.
fn discovered_router() -> HttpFilter {
    discovered_http(names::OUTBOUND_ROUTER, &plain_router())
}

/// Builds the extension to which the outbound listeners refer.
pub fn outbound_router(options: Options<'_>) -> TypedExtensionConfig {
    let mut upstream_log = traffic::outbound_requests(options.traffic);
    upstream_log.extend(access_log::outbound_requests(options.settings.access_logs));
    wire::extension(names::OUTBOUND_ROUTER, Router { upstream_log, ..plain_router() })
}

/// Builds an HTTP filter of that name.
pub fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(wire::any(config))),
        ..HttpFilter::default()
    }
}

fn discovered_http<M: Message + Name>(name: &str, default: &M) -> HttpFilter {
    let config_type = Some(http_filter::ConfigType::ConfigDiscovery(wire::discovered(Some(default))));
    HttpFilter { name: name.to_owned(), config_type, ..HttpFilter::default() }
}

fn discovered<M: Message + Name>(name: &str, default: Option<&M>) -> Filter {
    let config_type = Some(filter::ConfigType::ConfigDiscovery(wire::discovered(default)));
    Filter { name: name.to_owned(), config_type }
}

fn typed<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(wire::any(config))) }
}
