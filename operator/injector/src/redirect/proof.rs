//! Proof that a pod's traffic is redirected: written by what applies the rules, verified by an init container without
//! privileges before anything of the application runs.
//!
//! Impure. The proof is the alias of the loopback interface, which only NET_ADMIN can set, with the digest of the rules;
//! and a call of an address outside the pod, which must end at the proxy's port. Applies no rules.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use smidge_xds::mesh::proxy::OUTBOUND_PORT;

use super::{DNS_PORT, request::Redirection};

/// File of the kernel with the alias of the loopback interface.
pub const ALIAS: &str = "/sys/class/net/lo/ifalias";
/// Time limit of the call. A redirected call is answered by this process itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Advice for the owner of a pod that was refused.
const REMEDY: &str = "delete the pod, so that its controller makes a new one; if that fails as well, find out whether the DaemonSet \
                      smidge-cni is ready on this node, and whether the runtime passes annotations of pods to CNI plugins \
                      (containerd 1.6 or newer, CRI-O)";

/// Reasons for which a pod must not start.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The alias cannot be read.
    #[error(
        "the pod's traffic may not be redirected to its proxy: failed to read {ALIAS}: {0} (hint: {REMEDY})"
    )]
    Alias(#[source] io::Error),
    /// No rules were applied, or others.
    #[error(
        "the pod's traffic is not redirected to its proxy as its manifest requires: {ALIAS} has {found:?}, expected {expected:?} \
         (hint: {REMEDY})"
    )]
    Digest {
        /// Alias of the loopback interface, at most 256 bytes.
        found: String,
        /// Digest of the pod's rules.
        expected: String,
    },
    /// The proxy's port is taken.
    #[error(
        "failed to listen on {address} in place of the proxy: {source} (hint: no container may use the proxy's ports)"
    )]
    Listen {
        /// Address of the proxy for calls of the application.
        address: SocketAddr,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The call did not end at the proxy's port.
    #[error("the pod's traffic is not redirected to its proxy: a call of {to} {outcome} (hint: {REMEDY})")]
    Call {
        /// Address that was called.
        to: SocketAddr,
        /// Outcome, as the rest of a sentence.
        outcome: String,
    },
}

/// Verifies that the rules of this network namespace are those of the redirection, and that they are in force.
pub fn verify(redirection: &Redirection) -> Result<(), ProofError> {
    let found = fs::read_to_string(ALIAS).map_err(ProofError::Alias)?;
    let (found, expected) = (found.trim().to_owned(), redirection.digest());
    if found != expected {
        return Err(ProofError::Digest { found, expected });
    }
    // Addresses for documentation: no host has them, should a call leave the pod.
    let v4 = [[192, 0, 2, 1], [198, 51, 100, 1], [203, 0, 113, 1]].map(|it| IpAddr::V4(Ipv4Addr::from(it)));
    let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let v4 = v4.into_iter().find_map(|address| included(address, redirection));
    let v6 = included(v6, redirection);
    // A pod may have no address or no route of a family, but has those of one.
    let called_v4 = v4.map(|to| call(to, Ipv4Addr::LOCALHOST.into())).transpose()?;
    let called_v6 = v6.map(|to| call(to, Ipv6Addr::LOCALHOST.into())).transpose()?;
    match (v4, called_v4, called_v6) {
        (Some(to), Some(false), Some(false)) => {
            Err(ProofError::Call { to, outcome: "found no route, and one over IPv6 neither".to_owned() })
        }
        _ => Ok(()),
    }
}

/// Returns an address with a port to which calls are redirected; `None` if calls of that address are not.
fn included(address: IpAddr, Redirection { exclusions, .. }: &Redirection) -> Option<SocketAddr> {
    let is_excluded = exclusions.outbound_cidrs.iter().any(|cidr| cidr.contains(address));
    let port = (1..=u16::MAX).rev().find(|port| *port != DNS_PORT && exclusions.outbound.redirects(*port))?;
    (!is_excluded).then(|| SocketAddr::new(address, port))
}

/// Calls an address, and checks that the call arrives at the proxy's port on `loopback`. Returns false if the pod has no route
/// to the address, or not the family.
fn call(to: SocketAddr, loopback: IpAddr) -> Result<bool, ProofError> {
    let address = SocketAddr::new(loopback, OUTBOUND_PORT);
    let listener = match TcpListener::bind(address) {
        Ok(listener) => listener,
        Err(source) if source.kind() == io::ErrorKind::AddrNotAvailable => return Ok(false),
        Err(source) => return Err(ProofError::Listen { address, source }),
    };
    let failed = |outcome: String| ProofError::Call { to, outcome };
    let stream = match TcpStream::connect_timeout(&to, CONNECT_TIMEOUT) {
        Ok(stream) => stream,
        Err(error) if has_no_route(&error) => return Ok(false),
        Err(error) => return Err(failed(format!("ended with: {error}"))),
    };
    let arrived = listener.set_nonblocking(true).and_then(|()| listener.accept());
    let own = stream.local_addr();
    match (arrived, own) {
        (Ok((_, peer)), Ok(own)) if peer.port() == own.port() => Ok(true),
        (Ok(_), _) => Err(failed("was answered, and another call arrived at the proxy's port".to_owned())),
        (Err(_), _) => Err(failed("was answered from outside of the pod".to_owned())),
    }
}

fn has_no_route(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluded_addresses_and_ports_are_not_called() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let of = |text: &str| included(address, &text.parse().unwrap()).map(|to| to.port());
        assert_eq!(of("--"), Some(65_535));
        assert_eq!(of("--exclude-outbound-ports=65535,65534"), Some(65_533));
        assert_eq!(of("--include-outbound-ports=53,80,443"), Some(443));
        assert_eq!(of("--include-outbound-ports=53"), None);
        assert_eq!(of("--exclude-outbound-cidrs=192.0.2.0/24"), None);
        assert_eq!(of("--exclude-outbound-cidrs=0.0.0.0/0"), None);
        assert_eq!(of("--exclude-outbound-cidrs=::/0,192.0.3.0/24"), Some(65_535));
    }
}
