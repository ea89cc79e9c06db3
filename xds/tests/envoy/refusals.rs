//! Answers of a real Envoy of the caller's side to calls of a Service that policy does not allow: every request gets
//! the refusal and its reason, and a connection on which no request comes ends.

use smidge_xds_testing::{binaries, caller, inbound, meshes, outbound, process, trust};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use caller::{Authority, plain, request};
use inbound::at;
use outbound::Outbound;
use smidge_xds::{mesh::service::Protocol, snapshot::Snapshot};

const REFUSAL: &str =
    "smidge: access denied by the mesh's policy: no TrafficTarget allows this workload to call this Service";

/// Starts the proxy of `web`, which may not call `api` at `port`.
fn start(binary: &Path, protocol: Protocol) -> (Outbound, u16) {
    let [port] = process::reserved_ports();
    let authority = Authority::generate();
    let mut mesh = meshes::no_grants();
    trust::trust(&mut mesh, &authority);
    meshes::service(&mut mesh, "api", port, protocol, &[("api", 8080)]);
    // The address of the Service is the one that the test dials.
    meshes::port(&mut mesh, "api", port).addresses = BTreeSet::from([IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let snapshot = Snapshot::next(Arc::new(mesh), None);
    (Outbound::start(binary, &authority, ("outbound", port), &snapshot, at(1)), port)
}

#[test]
fn every_request_to_a_refused_service_gets_the_refusal_and_the_reason() {
    let large = format!("cookie: {}", "c".repeat(110_000));
    for binary in binaries::envoys() {
        for protocol in [Protocol::Http, Protocol::Detect] {
            let (_envoy, port) = start(&binary, protocol);
            for (line, headers, code, text) in [
                ("GET /books HTTP/1.1", "", 403, "Service\n"),
                ("CONNECT api:80 HTTP/1.1", "", 403, "Service\n"),
                ("OPTIONS * HTTP/1.1", "", 403, "Service\n"),
                ("GET /books HTTP/1.0", "", 403, "Service\n"),
                (
                    "FOO-BAR /books HTTP/1.1",
                    "",
                    400,
                    "Service; the request itself gets 400 (http1.codec_error)\n",
                ),
                (
                    "GET /books HTTP/1.1",
                    &large,
                    431,
                    "Service; the request itself gets 431 (http1.headers_too_large)\n",
                ),
                ("GET /books HTTP/1.1", "Connection: upgrade\nUpgrade: websocket", 403, "Service\n"),
            ] {
                let what = format!("{}, {protocol:?}: {line} {}", binary.display(), headers.len());
                let head = format!("{line}\nHost: api\n{headers}");
                let (status, answer) = request(plain(at(port)).unwrap(), &head).expect(&what);
                assert_eq!(status, code, "{what}: {answer}");
                assert!(answer.contains(REFUSAL), "{what}: {answer}");
                assert!(answer.ends_with(text), "{what}: {answer}");
            }
        }
    }
}

#[test]
fn a_connection_without_a_request_to_a_refused_service_ends() {
    for binary in binaries::envoys() {
        let (_envoy, port) = start(&binary, Protocol::Detect);
        // Silence, as of a client whose server would send first; and bytes that are not HTTP, which are answered before.
        for (said, beginning) in
            [("", ""), ("SSH-2.0-client\r\n", "HTTP/1.1 400"), ("\u{0}\u{1}", "HTTP/1.1 400")]
        {
            let start = Instant::now();
            let mut stream = plain(at(port)).unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).unwrap();
            let waited = start.elapsed();
            let what = format!("{}, {said:?}: {waited:?}: {heard}", binary.display());
            assert!(heard.starts_with(beginning) && heard.contains(REFUSAL) != said.is_empty(), "{what}");
            assert!(waited > Duration::from_millis(900) && waited < Duration::from_secs(4), "{what}");
        }
    }
}
