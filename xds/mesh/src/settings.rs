//! Settings that every proxy of a mesh has: limits of the heads of messages, and the header that names the caller.
//!
//! Turned into options of every listener and cluster, so that a change of them replaces all of these.

use serde::Serialize;

/// Settings of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The maximum number of headers of a request or of a response.
    pub max_headers: u32,
    /// The maximum size of the head of a request or of a response, in KiB.
    pub max_head_kib: u32,
    /// True if the server's proxy names the verified caller of each request in a header of its own.
    pub names_caller: bool,
}

impl Default for Settings {
    fn default() -> Self {
        // Servers commonly take 8 to 64 KiB, and Envoy by itself 100 headers and 60 KiB.
        Self { max_headers: 1_000, max_head_kib: 96, names_caller: false }
    }
}
