//! One cluster with an endpoint of each transport: a real Envoy sends mTLS to a workload with a proxy and plaintext to one
//! without, and follows an address that changes from one to the other.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

use smidge_xds::{
    mesh::{
        Mesh,
        access::{Payload, Ports},
        service::{Protocol, Transport},
    },
    snapshot::Snapshot,
};
use smidge_xds_testing::{
    binaries,
    caller::{Authority, plain, request},
    inbound::{Inbound, at, mirror_server, server, within},
    meshes,
    outbound::Outbound,
    process, trust,
};

/// The first byte of a connection over TLS.
const TLS_HANDSHAKE: u8 = 22;

/// The sidecar of `web`, which calls; that of a workload `api`; and a workload without one.
struct Mixed {
    outbound: Outbound,
    inbound: Inbound,
    port: u16,
    bare: SocketAddr,
    snapshot: Snapshot,
}

impl Mixed {
    fn start(binary: &Path) -> Self {
        let [port, outer] = process::reserved_ports();
        let authority = Authority::generate();
        let bare = closing_server();
        let both = [(port, Transport::Mtls), (bare.port(), Transport::Plaintext)];
        let snapshot = Snapshot::next(Arc::new(mesh(&authority, port, &both)), None);
        let inbound = Inbound::start(binary, authority, &[port], &snapshot, mirror_server());
        let listener = ("outbound/10.96.0.10:80", outer);
        let outbound = Outbound::balanced(binary, &inbound.authority, listener, &snapshot);
        Self { outbound, inbound, port, bare, snapshot }
    }

    fn put(&mut self, endpoints: &[(u16, Transport)]) {
        let mesh = mesh(&self.inbound.authority, self.port, endpoints);
        self.snapshot = Snapshot::next(Arc::new(mesh), Some(&self.snapshot));
        self.outbound.put_endpoints(&self.snapshot);
    }

    /// Sends a request, and returns the status and whether it went through the sidecar of the workload, which removes the
    /// number of the attempt.
    fn call(&self) -> (u16, bool) {
        let (status, answer) =
            request(plain(self.outbound.address()).unwrap(), "GET /books HTTP/1.1\nHost: api").unwrap();
        (status, !answer.contains("x-envoy-attempt-count"))
    }
}

/// Starts a workload that answers one request with its head, and closes the connection: a pooled connection would outlive
/// a change of the transport.
fn closing_server() -> SocketAddr {
    server(|mut stream| {
        let (mut head, mut bytes) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            head.extend_from_slice(&bytes[..count]);
            if head.first() == Some(&TLS_HANDSHAKE) {
                return;
            }
            if head.ends_with(b"\r\n\r\n") {
                let status =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", head.len());
                // The caller may have gone.
                let _ = stream.write_all(&[status.into_bytes(), head].concat());
                return;
            }
        }
    })
}

/// Builds a mesh where the Service `api` has these endpoints on this machine.
fn mesh(authority: &Authority, port: u16, endpoints: &[(u16, Transport)]) -> Mesh {
    let mut mesh = trust::pair(authority, &[(port, Protocol::Http)]);
    meshes::grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
    let service = meshes::port(&mut mesh, "api", 80);
    let one = service.endpoints[0].clone();
    service.endpoints.clear();
    for (port, transport) in endpoints {
        let mut endpoint = one.clone();
        (endpoint.address, endpoint.port, endpoint.transport) = (at(0).ip(), *port, *transport);
        service.endpoints.push(endpoint);
    }
    mesh
}

#[test]
fn each_endpoint_is_called_by_its_own_transport() {
    for binary in binaries::envoys() {
        let it = Mixed::start(&binary);
        let mut ways = BTreeSet::new();
        for _ in 0..40 {
            let (status, through_sidecar) = it.call();
            assert_eq!(status, 200);
            ways.insert(through_sidecar);
        }
        assert_eq!(ways, BTreeSet::from([false, true]), "{}", binary.display());
    }
}

#[test]
fn an_address_that_gets_a_proxy_or_loses_it_is_called_accordingly() {
    for binary in binaries::envoys() {
        let mut it = Mixed::start(&binary);
        let bare = it.bare.port();
        it.put(&[(bare, Transport::Plaintext)]);
        within("plaintext alone", || it.call() == (200, false));
        // mTLS to a server that has none fails, and reports it: never plaintext instead.
        it.put(&[(bare, Transport::Mtls)]);
        within("mTLS to the same address", || it.call().0 == 503);
        it.put(&[(bare, Transport::Plaintext)]);
        within("plaintext again", || it.call() == (200, false));
        it.put(&[(it.port, Transport::Mtls)]);
        within("mTLS alone", || (0..10).all(|_| it.call() == (200, true)));
    }
}
