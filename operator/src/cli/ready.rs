//! Looks whether a proxy is ready: whether it has its first configuration.
//!
//! Used by `redirect`, in a pod, and by `sandbox`. One look; the callers wait.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use smidge_xds::{bootstrap::READINESS_PATH, mesh::proxy::READINESS_PORT};

/// Time limit of one look at a proxy.
const LOOK: Duration = Duration::from_secs(2);

/// Returns an error unless the proxy at `address` is ready.
pub fn ready(address: IpAddr) -> io::Result<()> {
    let place = SocketAddr::new(address, READINESS_PORT);
    let mut stream = TcpStream::connect_timeout(&place, LOOK)?;
    stream.set_read_timeout(Some(LOOK))?;
    write!(stream, "GET {READINESS_PATH} HTTP/1.1\r\nhost: {place}\r\nconnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    if start == *b"HTTP/1.1 200" { Ok(()) } else { Err(io::Error::other(format!("{place} is not ready"))) }
}
