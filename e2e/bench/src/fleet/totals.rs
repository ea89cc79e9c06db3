//! Totals of all proxies of a fleet since it was started.
//!
//! Kept by `fleet`, which counts; read by the scenarios (`costs`).

/// Totals that the proxies have received and sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub messages: u64,
    /// Bytes of these messages, without any framing.
    pub bytes: u64,
    /// Bytes that were read from sockets: the same with the framing of gRPC, HTTP/2 and TLS, and the handshakes.
    pub wire: u64,
    /// Bytes in the sockets of proxies that read nothing.
    pub unread: u64,
    /// Number of resources by kind, in the order of `Kind::ALL`.
    pub resources: [u64; 6],
    /// Bytes of the resource bodies.
    pub bodies: u64,
    pub removed: u64,
    pub open: u64,
    /// Number of streams that the server ended.
    pub ended: u64,
    /// Number of resources held now.
    pub held: u64,
    /// Number of pushes of statistics that were sent, and their bytes; that were answered; and that were reset or that
    /// their connection did not take.
    pub pushes: u64,
    pub push_bytes: u64,
    pub pushes_answered: u64,
    pub pushes_failed: u64,
}
