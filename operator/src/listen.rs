//! Listens at the ports of the operator, for callers of both IP families.
//!
//! Used by `runtime` and `admin`. `[::]` means every address of the machine, of either family, and `0.0.0.0` where the
//! machine has no IPv6. Accepts no connection.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket};

/// Size of the buffer for answers that the kernel keeps for each connection, in bytes; `None`: the kernel's default.
pub type SendBuffer = Option<u32>;

/// Listens at `address`, with at most `backlog` connections that are not accepted yet.
pub fn listen(address: SocketAddr, backlog: u32, buffer: SendBuffer) -> io::Result<TcpListener> {
    match listen_at(address, backlog, buffer) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && has_no_ipv6(&error) => {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            listen_at(address, backlog, buffer)
        }
        listener => listener,
    }
}

fn listen_at(address: SocketAddr, backlog: u32, buffer: SendBuffer) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Whatever the machine's default is (net.ipv6.bindv6only).
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // As `TcpListener::bind` does: a new operator can bind the address of one that has just ended.
    socket.set_reuseaddr(true)?;
    if let Some(buffer) = buffer {
        // Accepted connections inherit this.
        socket.set_send_buffer_size(buffer)?;
    }
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Returns true for the errors of a machine whose kernel has no IPv6.
fn has_no_ipv6(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(code, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

/// Returns the address of a peer: one of IPv4 as such, also where it was accepted by a socket of IPv6.
pub fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_of_both_families_are_accepted() {
        let listener = listen("[::]:0".parse().unwrap(), 16, None).unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in ["127.0.0.1", "::1"] {
            let caller = tokio::net::TcpStream::connect((address, port)).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(canonical(peer), caller.local_addr().unwrap(), "{address}");
        }
    }

    #[test]
    fn only_machines_without_ipv6_fall_back() {
        let of = |errno: rustix::io::Errno| has_no_ipv6(&io::Error::from_raw_os_error(errno.raw_os_error()));
        assert!(of(rustix::io::Errno::AFNOSUPPORT) && of(rustix::io::Errno::ADDRNOTAVAIL));
        assert!(!of(rustix::io::Errno::ADDRINUSE) && !of(rustix::io::Errno::ACCESS));
    }
}
