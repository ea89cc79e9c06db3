//! Builds the static Envoy bootstrap with which a proxy starts, inline in the injected container.
//!
//! Pure. Turns a [`BootstrapInput`] into the JSON that a stock Envoy (1.36 and later) reads with `--config-yaml`: its
//! node, how it reaches the control plane and authenticates itself to it, and the two ports of its own, readiness with
//! the application's probes (15021) and metrics (15090). Called by the operator's injector. Holds no secret and no
//! Kubernetes type; the configuration of the mesh comes over ADS and is not known here.

use serde_json::{Value, json};

use crate::{
    envoy::names,
    mesh::proxy::{READINESS_PORT, STATS_PORT, TrafficStats},
};

mod control_plane;
mod credential;
mod probe;
mod stats;
mod traffic;

pub use control_plane::ControlPlane;
pub use credential::{
    CERTIFICATE_FILE, CERTIFICATE_SDS_FILE, Credential, KEY_FILE, TOKEN_FILE, TOKEN_SDS_FILE,
    certificate_sds, token_sds,
};
pub use probe::{Check, Probe};

/// The path of [`READINESS_PORT`] that answers 200 once the proxy has its first configuration.
pub const READINESS_PATH: &str = "/healthz/ready";
/// The request target of [`STATS_PORT`] that answers with metrics; a target with a query is not served.
const STATS_PATH: &str = "/stats/prometheus";
/// The page of the admin interface that answers it: the statistics that were ever updated. Most never are, and would be
/// most of each scrape.
const USED_STATS: &str = "/stats/prometheus?usedonly";
/// The listener of [`READINESS_PORT`], and the cluster by which it queries the admin interface.
const READINESS: &str = "readiness";
/// The listener of [`STATS_PORT`].
const STATS: &str = "stats";
/// The cluster by which [`STATS_PORT`] queries the admin interface.
const METRICS: &str = "metrics";
/// Address of Envoy's admin interface: an abstract Unix socket. It exists as long as the pod's network namespace, needs
/// no writable folder, and no request that an application is tricked into sending over TCP reaches it.
pub const ADMIN_SOCKET: &str = "@smidge-admin";

/// Envoy refuses regular expressions larger than 100 instructions by default, a UUID pattern among them, and a refused
/// resource would freeze the policy. The control plane bounds patterns itself; this leaves RE2's own memory as limit.
///
/// The limit holds for the whole process and cannot be raised for resources alone. So only the control plane may make
/// Envoy compile a pattern: the admin interface takes one in its query (`filter=`), and no query gets there.
const REGEX_PROGRAM_SIZE: u32 = 1_000_000;

/// Maximum number of connections that a proxy accepts, from callers and from its workload, unless it is set. One that is
/// idle or half open takes up to 27 KB (measured with Envoy 1.36 and 1.40), so that all of them leave about half of the proxy's
/// memory (512 MiB) free. Each proxy that calls opens a few connections.
pub const CONNECTIONS: u32 = 10_000;

/// Returns how many of a maximum number of connections may come from elsewhere, four in five: no unauthenticated peer can
/// take those that the workload makes.
fn inbound(connections: u32) -> u32 {
    connections - connections / 5
}

/// Maximum number of connections to each of the ports that answer also while the proxy has no room for others.
const READINESS_CONNECTIONS: u32 = 2_000;
const STATS_CONNECTIONS: u32 = 200;

/// The address family of the workload's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.1",
            Self::V6 => "::1",
        }
    }

    /// Returns the source address of connections from the proxy to its own workload. The redirection lets these
    /// through, while a call that the workload makes to itself is redirected like every inbound call.
    pub fn inbound_source(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.6",
            Self::V6 => "::6",
        }
    }

    /// Returns `address:port` as written in a `Host` header.
    fn authority(self, address: &str, port: u16) -> String {
        match self {
            Self::V4 => format!("{address}:{port}"),
            Self::V6 => format!("[{address}]:{port}"),
        }
    }
}

/// Inputs of a bootstrap. Texts may be placeholders that are replaced when the proxy is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapInput {
    /// Name of the instance, unique in its namespace: that of the pod.
    pub instance: String,
    /// The namespace of the instance. The node's id is `<instance>.<namespace>`.
    pub namespace: String,
    /// The cluster that the instance belongs to: a claim, for logs.
    pub cluster: String,
    /// Address of the workload, at which the two ports listen and to which probes are sent.
    pub address: String,
    /// The family of `address`.
    pub family: Family,
    /// Control plane from which configuration comes, and how each side authenticates the other.
    pub control_plane: ControlPlane,
    /// The workload's probes that the proxy answers; empty: none.
    pub probes: Vec<Probe>,
    /// Mark of the proxy's connections to others (`SO_MARK`), by which the redirection lets them through where it cannot
    /// tell by the user. Those to its own workload have a source address that tells.
    pub socket_mark: Option<u32>,
    /// The statistics of traffic that the proxy counts and pushes to the control plane.
    pub traffic: TrafficStats,
    /// Maximum number of connections that the proxy accepts, from callers and from its workload; [`CONNECTIONS`] by default.
    /// Callers can take four in five of them.
    pub connections: u32,
}

/// Builds the bootstrap, as the JSON form of `envoy.config.bootstrap.v3.Bootstrap`. Equal inputs give equal texts.
pub fn bootstrap(input: &BootstrapInput) -> Value {
    let BootstrapInput {
        instance,
        namespace,
        cluster,
        address: _,
        family,
        control_plane,
        probes,
        socket_mark,
        traffic,
        connections,
    } = input;
    let mut clusters = vec![control_plane.cluster(*family), readiness_cluster(), metrics_cluster()];
    clusters.extend(probes.iter().map(|probe| probe.cluster(input)));
    let listeners = vec![readiness_listener(input), stats_listener(input)];
    let resources = with(json!({}), [("listeners", listeners.into()), ("clusters", clusters.into())]);
    let rest = json!({
        "node": {"id": format!("{instance}.{namespace}"), "cluster": cluster},
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET}}},
        "layered_runtime": {"layers": [{
            "name": "smidge",
            "static_layer": {
                "re2.max_program_size.error_level": REGEX_PROGRAM_SIZE,
                (limit_of(names::INBOUND)): inbound(*connections),
                (limit_of(READINESS)): READINESS_CONNECTIONS,
                (limit_of(STATS)): STATS_CONNECTIONS,
            },
        }]},
        "overload_manager": {"resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": connections,
            },
        }]},
        "deferred_stat_options": stats::deferred(),
    });
    let all = with(
        rest,
        [
            ("dynamic_resources", control_plane.dynamic_resources()),
            ("static_resources", resources),
            ("stats_config", stats::config(*traffic)),
        ],
    );
    let all = if traffic.is_none() { all } else { with(all, control_plane.traffic_sink(*traffic)) };
    match socket_mark {
        Some(mark) => with(all, [("cluster_manager", marked(*mark))]),
        None => all,
    }
}

/// Builds the default of all clusters for their connections. A cluster with a source address of its own is not marked.
fn marked(mark: u32) -> Value {
    const SOL_SOCKET: u32 = 1;
    const SO_MARK: u32 = 36;
    json!({"upstream_bind_config": {"socket_options": [
        {"level": SOL_SOCKET, "name": SO_MARK, "int_value": mark, "state": "STATE_PREBIND"},
    ]}})
}

/// Adds fields to an object. Large values are added so, because `json!` copies what it is given.
fn with<const N: usize>(mut object: Value, fields: [(&str, Value); N]) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    }
    object
}

/// Returns the runtime key of the maximum number of connections of a listener.
fn limit_of(listener: &str) -> String {
    format!("envoy.resource_limits.listener.{listener}.connection_limit")
}

/// Builds the cluster of the admin interface for readiness, queried by the kubelet and every other client of the port.
fn readiness_cluster() -> Value {
    admin_cluster(READINESS, &json!([]))
}

/// Builds the cluster of the admin interface for metrics. Envoy writes them on its main thread, which also applies
/// policy, endpoints and certificates: so one scrape at a time, and one that waits; others are answered 503. Readiness
/// waits for none.
fn metrics_cluster() -> Value {
    let one = json!({"max_connections": 1, "max_pending_requests": 1, "max_requests": 1, "max_retries": 1});
    admin_cluster(METRICS, &json!([one]))
}

fn admin_cluster(name: &str, thresholds: &Value) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": thresholds},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"pipe": {"path": ADMIN_SOCKET}}}},
        ]}]},
    })
}

/// Builds a route to one page of the admin interface, for GET alone and by the whole target, so that no other page can
/// be reached and no query reaches one: `filter=` is a pattern that Envoy would try on every statistic it has.
fn admin_route(cluster: &str, path: &str, page: &str) -> Value {
    json!({
        "match": {"path": path, "headers": [target_is(path), method_is_get()]},
        "route": {"cluster": cluster, "prefix_rewrite": page, "timeout": "5s"},
    })
}

/// Matches the whole target: a route's `path` is compared without the query, `:path` with it.
fn target_is(path: &str) -> Value {
    json!({"name": ":path", "string_match": {"exact": path}})
}

/// Matches GET: HEAD and every other method find no route.
fn method_is_get() -> Value {
    json!({"name": ":method", "string_match": {"exact": "GET"}})
}

fn readiness_listener(input: &BootstrapInput) -> Value {
    let mut routes = vec![admin_route(READINESS, READINESS_PATH, "/ready")];
    routes.extend(input.probes.iter().filter_map(|probe| probe.route(input)));
    let mut filters: Vec<Value> = probe::status_alone().into();
    filters.extend(input.probes.iter().filter_map(Probe::health_filter));
    filters.extend([probe::no_body(), probe::forget_headers()]);
    listener(READINESS, input, READINESS_PORT, filters, routes)
}

fn stats_listener(input: &BootstrapInput) -> Value {
    listener(STATS, input, STATS_PORT, Vec::new(), vec![admin_route(METRICS, STATS_PATH, USED_STATS)])
}

/// Builds a listener that must answer while the proxy is overloaded, else an overloaded pod would be killed for it.
///
/// It has the workload's own address and loopback. A listener at every address would receive each call of the workload
/// to this port of any host: Envoy prefers a listener that has the port for all addresses to passing a connection on.
fn listener(
    name: &str,
    input: &BootstrapInput,
    port: u16,
    mut filters: Vec<Value>,
    routes: Vec<Value>,
) -> Value {
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "suppress_envoy_headers": true,
    }}));
    let routes = with(json!({"name": name, "domains": ["*"]}), [("routes", routes.into())]);
    let hosts = with(json!({}), [("virtual_hosts", vec![routes].into())]);
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "HTTP1",
        "generate_request_id": false,
        "skip_xff_append": true,
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "60s"},
    });
    let manager = with(manager, [("route_config", hosts), ("http_filters", filters.into())]);
    let manager =
        with(json!({"name": "envoy.filters.network.http_connection_manager"}), [("typed_config", manager)]);
    let chain = with(json!({}), [("filters", vec![manager].into())]);
    let listener = json!({
        "name": name,
        "address": {"socket_address": {"address": input.address, "port_value": port}},
        "additional_addresses": [
            {"address": {"socket_address": {"address": input.family.loopback(), "port_value": port}}},
        ],
        "ignore_global_conn_limit": true,
        "bypass_overload_manager": true,
    });
    with(listener, [("filter_chains", vec![chain].into())])
}
