//! Ports of the proxy itself, the same in every pod.
//!
//! Used by configuration, injection and redirection. Does not define what is served on the ports.

/// Port of outbound connections, which are redirected from the application.
pub const OUTBOUND_PORT: u16 = 15001;
/// Port of inbound connections, which are redirected from other pods and hosts.
pub const INBOUND_PORT: u16 = 15006;
/// Port of readiness, and of the probes and HTTP hooks of the application.
pub const READINESS_PORT: u16 = 15021;
/// Port of metrics.
pub const STATS_PORT: u16 = 15090;

/// All ports of the proxy. None is ever a port of the application: a workload that declares one would expose the
/// proxy to its callers.
pub const PORTS: [u16; 4] = [OUTBOUND_PORT, INBOUND_PORT, READINESS_PORT, STATS_PORT];
