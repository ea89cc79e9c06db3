//! Labels by which users set Smidge for a namespace or a pod, and the names that injection leaves on a pod.
//!
//! Names and values only; what an absent or unknown value means is for the reader (`lower`, `injector`) to say.

/// On a namespace: take its pods into the mesh ([`INJECT_ENABLED`]). On a pod: leave it out ([`INJECT_DISABLED`]).
pub const INJECT: &str = "smidge.mesh/inject";
/// Value of [`INJECT`] on a namespace whose pods are taken into the mesh.
pub const INJECT_ENABLED: &str = "enabled";
/// Value of [`INJECT`] on a pod that is left out of the mesh.
pub const INJECT_DISABLED: &str = "disabled";

/// On a namespace: how access to its pods is decided; the words of [`AccessMode`](crate::config::AccessMode).
/// Absent: as the `MeshConfig` says.
pub const ACCESS: &str = "smidge.mesh/access";

/// On a namespace: whether plaintext callers reach its pods; the words of [`MtlsMode`](crate::config::MtlsMode).
/// Absent: as the `MeshConfig` says.
pub const MTLS: &str = "smidge.mesh/mtls";

/// Annotation by which users have callers reach ports of a pod past the proxy, for example `9000,9100`.
pub const EXCLUDE_INBOUND_PORTS: &str = "smidge.mesh/exclude-inbound-ports";

/// Annotation of a pod that was injected; its value is `true`.
pub const INJECTED: &str = "smidge.mesh/injected";
/// Name of the proxy's container, a native sidecar and so an init container.
pub const PROXY_CONTAINER: &str = "smidge-proxy";
/// Name of the init container that redirects the pod's traffic.
pub const INIT_CONTAINER: &str = "smidge-init";
