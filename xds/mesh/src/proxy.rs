//! Ports of the proxy itself, the same in every pod.
//!
//! Used by what configures, injects and redirects to proxies. Says nothing about what is served on them.

/// Outbound connections, redirected from the application.
pub const OUTBOUND_PORT: u16 = 15001;
/// Inbound connections, redirected from elsewhere.
pub const INBOUND_PORT: u16 = 15006;
/// Readiness, and the probes and HTTP hooks of the application.
pub const READINESS_PORT: u16 = 15021;
/// Metrics.
pub const STATS_PORT: u16 = 15090;

/// All of them. None is ever a port of the application: a workload that declares one would hand its callers the proxy.
pub const PORTS: [u16; 4] = [OUTBOUND_PORT, INBOUND_PORT, READINESS_PORT, STATS_PORT];
