//! Labels and annotations by which users configure Smidge for a namespace or a pod, and the names that injection
//! writes into a pod.
//!
//! Contains names and values only; the reader (`lower`, `injector`) decides what an absent or unknown value means.

/// Prefix of all labels and annotations of Smidge.
pub const PREFIX: &str = "smidge.mesh/";

/// Label of a namespace whose pods are in the mesh ([`INJECT_ENABLED`], [`INJECT_MANUAL`]), or of a pod that is not
/// injected ([`INJECT_DISABLED`]).
pub const INJECT: &str = "smidge.mesh/inject";
/// Value of [`INJECT`] on a namespace whose pods are injected.
pub const INJECT_ENABLED: &str = "enabled";
/// Value of [`INJECT`] on a namespace whose pods are in the mesh if their manifests have the proxy: the webhook adds none.
pub const INJECT_MANUAL: &str = "manual";
/// Value of [`INJECT`] on a pod that is not injected.
pub const INJECT_DISABLED: &str = "disabled";

/// Label of a namespace with the access mode of its pods; the words of [`AccessMode`](crate::config::AccessMode).
/// Defaults to the mode of the `MeshConfig`.
pub const ACCESS: &str = "smidge.mesh/access";

/// Label of a namespace with the mTLS mode of its pods; the words of [`MtlsMode`](crate::config::MtlsMode). Defaults to
/// the mode of the `MeshConfig`.
pub const MTLS: &str = "smidge.mesh/mtls";

/// Label of a namespace with the way in which the traffic of its pods is redirected: [`REDIRECTION_CNI`] or
/// [`REDIRECTION_INIT`]. Defaults to what the mesh is installed with.
pub const REDIRECTION: &str = "smidge.mesh/redirection";
/// Value of [`REDIRECTION`]: the CNI plugin redirects, and pods need no privilege.
pub const REDIRECTION_CNI: &str = "cni";
/// Value of [`REDIRECTION`]: an init container with NET_ADMIN redirects.
pub const REDIRECTION_INIT: &str = "init";

/// Annotation of a pod with the ports that callers reach without the proxy, for example `9000,9100`.
pub const EXCLUDE_INBOUND_PORTS: &str = "smidge.mesh/exclude-inbound-ports";

/// Annotation of a pod with the ports to which its application connects without the proxy.
pub const EXCLUDE_OUTBOUND_PORTS: &str = "smidge.mesh/exclude-outbound-ports";
/// Annotation of a pod with the only ports that callers reach by the proxy; all others are reached without it.
pub const INCLUDE_INBOUND_PORTS: &str = "smidge.mesh/include-inbound-ports";
/// Annotation of a pod with the only ports to which its application connects by the proxy.
pub const INCLUDE_OUTBOUND_PORTS: &str = "smidge.mesh/include-outbound-ports";
/// Annotation of a pod with the networks to which its application connects without the proxy, for example
/// `10.1.0.0/16,fd00::/8`.
pub const EXCLUDE_OUTBOUND_CIDRS: &str = "smidge.mesh/exclude-outbound-cidrs";
/// Annotation of a pod with several networks: the interfaces whose connections, in both directions, pass the proxy by, for
/// example `net1`.
pub const EXCLUDE_INTERFACES: &str = "smidge.mesh/exclude-interfaces";

/// Annotation of a namespace or a pod: whole seconds for which containers without a `preStop` go on when the pod is deleted.
pub const TERMINATION_DELAY_SECONDS: &str = "smidge.mesh/termination-delay-seconds";
/// Annotation of a namespace or a pod: worker threads of the proxy.
pub const PROXY_CONCURRENCY: &str = "smidge.mesh/proxy-concurrency";
/// Annotation of a namespace or a pod: maximum number of connections that the proxy accepts.
pub const PROXY_MAX_CONNECTIONS: &str = "smidge.mesh/proxy-max-connections";
/// Annotation of a namespace or a pod: the least severe messages that the proxy logs, as of Envoy's `--log-level`.
pub const PROXY_LOG_LEVEL: &str = "smidge.mesh/proxy-log-level";
/// Annotation of a namespace or a pod: whole seconds in which the proxy ends connections that its configuration no longer has.
pub const PROXY_DRAIN_SECONDS: &str = "smidge.mesh/proxy-drain-seconds";
/// Annotation of a namespace or a pod: whole seconds for which a pod waits for its proxy, before this is started again.
pub const PROXY_START_TIMEOUT_SECONDS: &str = "smidge.mesh/proxy-start-timeout-seconds";
/// Annotation of an injected pod: the containers that end later, the delay and the pod's own grace period.
pub const TERMINATION: &str = "smidge.mesh/termination";

/// Annotation of an injected pod: the version of Smidge that injected it.
pub const VERSION: &str = "smidge.mesh/version";
/// Annotation of an injected pod: the version of its Envoy, for example `1.40.0`, which decides what it can count.
pub const PROXY_VERSION: &str = "smidge.mesh/proxy-version";
/// Annotation of an injected pod: the SDS file that names the path of the proxy's token; reaches the proxy through the
/// downward API.
pub const TOKEN_SDS: &str = "smidge.mesh/token-sds";
/// Annotation of an injected pod whose traffic the CNI plugin redirects: the arguments of `smidge redirect`. The runtime
/// passes it to the plugin.
pub const CNI_REDIRECT: &str = "smidge.mesh/cni-redirect";
/// Annotation of an injected pod: the pod's original probes, by name.
pub const PROBES: &str = "smidge.mesh/probes";
/// Annotation of an injected pod; its value is `true`.
pub const INJECTED: &str = "smidge.mesh/injected";
/// Name of the proxy's container, a native sidecar and so an init container.
pub const PROXY_CONTAINER: &str = "smidge-proxy";
/// Name of the init container that redirects the pod's traffic.
pub const INIT_CONTAINER: &str = "smidge-init";

/// The namespace whose pods are never injected, beside the one that Smidge itself runs in.
pub const KUBE_SYSTEM: &str = "kube-system";

/// Annotations of a pod alone: those that users set, and those that injection writes.
pub const POD_ANNOTATIONS: [&str; 13] = [
    EXCLUDE_INBOUND_PORTS,
    EXCLUDE_OUTBOUND_PORTS,
    INCLUDE_INBOUND_PORTS,
    INCLUDE_OUTBOUND_PORTS,
    EXCLUDE_OUTBOUND_CIDRS,
    EXCLUDE_INTERFACES,
    INJECTED,
    VERSION,
    PROXY_VERSION,
    TOKEN_SDS,
    PROBES,
    TERMINATION,
    CNI_REDIRECT,
];

/// Annotations of a namespace or a pod that set how its pods are injected: the time of their end, options of the proxy, and
/// requests and limits of the two containers, for example `100m` or `none`.
pub const INJECTION: [&str; 18] = [
    TERMINATION_DELAY_SECONDS,
    PROXY_CONCURRENCY,
    PROXY_MAX_CONNECTIONS,
    PROXY_LOG_LEVEL,
    PROXY_DRAIN_SECONDS,
    PROXY_START_TIMEOUT_SECONDS,
    "smidge.mesh/init-cpu-request",
    "smidge.mesh/init-cpu-limit",
    "smidge.mesh/init-memory-request",
    "smidge.mesh/init-memory-limit",
    "smidge.mesh/init-ephemeral-storage-request",
    "smidge.mesh/init-ephemeral-storage-limit",
    "smidge.mesh/proxy-cpu-request",
    "smidge.mesh/proxy-cpu-limit",
    "smidge.mesh/proxy-memory-request",
    "smidge.mesh/proxy-memory-limit",
    "smidge.mesh/proxy-ephemeral-storage-request",
    "smidge.mesh/proxy-ephemeral-storage-limit",
];

/// Annotations of other meshes on a pod, each with the annotation of Smidge that has the same purpose.
pub const COUNTERPARTS: [(&str, &str); 21] = [
    ("openservicemesh.io/inbound-port-exclusion-list", EXCLUDE_INBOUND_PORTS),
    ("openservicemesh.io/outbound-port-exclusion-list", EXCLUDE_OUTBOUND_PORTS),
    ("openservicemesh.io/outbound-ip-range-exclusion-list", EXCLUDE_OUTBOUND_CIDRS),
    ("config.linkerd.io/skip-inbound-ports", EXCLUDE_INBOUND_PORTS),
    ("config.linkerd.io/skip-outbound-ports", EXCLUDE_OUTBOUND_PORTS),
    ("config.linkerd.io/skip-subnets", EXCLUDE_OUTBOUND_CIDRS),
    ("config.linkerd.io/proxy-cpu-request", "smidge.mesh/proxy-cpu-request"),
    ("config.linkerd.io/proxy-cpu-limit", "smidge.mesh/proxy-cpu-limit"),
    ("config.linkerd.io/proxy-memory-request", "smidge.mesh/proxy-memory-request"),
    ("config.linkerd.io/proxy-memory-limit", "smidge.mesh/proxy-memory-limit"),
    ("traffic.sidecar.istio.io/excludeInboundPorts", EXCLUDE_INBOUND_PORTS),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", EXCLUDE_OUTBOUND_PORTS),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", EXCLUDE_OUTBOUND_CIDRS),
    ("traffic.sidecar.istio.io/excludeInterfaces", EXCLUDE_INTERFACES),
    ("sidecar.istio.io/proxyCPU", "smidge.mesh/proxy-cpu-request"),
    ("sidecar.istio.io/proxyCPULimit", "smidge.mesh/proxy-cpu-limit"),
    ("sidecar.istio.io/proxyMemory", "smidge.mesh/proxy-memory-request"),
    ("sidecar.istio.io/proxyMemoryLimit", "smidge.mesh/proxy-memory-limit"),
    ("consul.hashicorp.com/transparent-proxy-exclude-inbound-ports", EXCLUDE_INBOUND_PORTS),
    ("consul.hashicorp.com/transparent-proxy-exclude-outbound-ports", EXCLUDE_OUTBOUND_PORTS),
    ("consul.hashicorp.com/transparent-proxy-exclude-outbound-cidrs", EXCLUDE_OUTBOUND_CIDRS),
];
