//! Effects of a real Envoy on a request before any policy is evaluated: what it removes, what it refuses, and what it
//! waits for. Raw callers with an identity against the inbound side of a workload that allows them everything.

use smidge_xds_testing::{binaries, caller, http2, inbound, meshes, process, trust};
use std::{io, path::Path, sync::Arc};

use caller::{Authority, Leaf, plain, request};
use inbound::{Inbound, at, mirror_server, spiffe};
use smidge_xds::{
    mesh::{
        access::{AccessMode, Payload, Ports},
        service::Protocol,
    },
    snapshot::Snapshot,
};

/// An Envoy in front of a workload that returns each request, and a caller that is allowed everything.
struct Scenario {
    http: u16,
    web: Leaf,
    inbound: Inbound,
}

impl Scenario {
    fn start(binary: &Path, access: AccessMode) -> Self {
        let [http, tcp] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = trust::http_trusting(&authority);
        mesh.grants.clear();
        meshes::workload(&mut mesh, "api", 10, &[(http, Protocol::Http), (tcp, Protocol::Tcp)]);
        meshes::grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
        meshes::each_class(&mut mesh, |class| class.access = access);
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let inbound = Inbound::start(binary, authority, &[http, tcp], &snapshot, mirror_server());
        let web = inbound.authority.issue(&spiffe("web"));
        Self { http, web, inbound }
    }

    /// Returns the status, and the whole answer, which contains the request as the workload received it.
    fn ask(&self, target: &str, headers: &str) -> io::Result<(u16, String)> {
        let head = format!("GET {target} HTTP/1.1\nHost: api\n{headers}");
        request(self.web.connect(at(self.http)).unwrap(), &head)
    }
}

#[test]
fn nothing_that_only_proxies_write_reaches_the_workload() {
    let claims = [
        "x-envoy-original-path: /claim",
        "x-envoy-external-address: 192.0.2.1",
        "x-envoy-downstream-service-cluster: claim",
        "x-envoy-decorator-operation: claim",
        "x-envoy-original-dst-host: 192.0.2.1:80",
        "x-envoy-peer-metadata: claim",
        "X-Envoy-Internal: true",
        "x-envoy-retry-on: 5xx",
        "x-envoy-anything: claim",
        "x-smidge-path: /claim",
        "X-Smidge-Anything: claim",
        "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/shop/sa/admin",
        // One internal address makes Envoy itself mark the request as internal.
        "x-forwarded-for: 10.1.2.3",
    ];
    // Applications need the headers of an edge proxy: they stay, as the caller's claim.
    let kept = ["x-forwarded-for: 10.1.2.3", "x-forwarded-host: shop.example", "x-request-id: 7"];
    for binary in binaries::envoys() {
        let scenario = Scenario::start(&binary, AccessMode::Enforce);
        let headers = [&claims[..], &kept[1..]].concat().join("\n");
        let (status, answer) = scenario.ask("/books", &headers).unwrap();
        let (answer_head, seen) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(status, 200, "{answer_head}");
        let seen = seen.to_lowercase();
        for name in ["x-envoy-", "x-smidge-", "x-forwarded-client-cert", "claim"] {
            assert!(!seen.contains(name), "{}: {name} in\n{seen}", binary.display());
        }
        for header in kept {
            assert!(seen.contains(header), "{}: no {header} in\n{seen}", binary.display());
        }
    }
}

#[test]
fn a_path_that_servers_would_not_read_alike_is_refused_in_every_mode() {
    for binary in binaries::envoys() {
        for access in [AccessMode::Enforce, AccessMode::Audit, AccessMode::Permissive] {
            let scenario = Scenario::start(&binary, access);
            for path in [
                "/books/%2e%2e;/secret",
                "/books/%2E%2e;x=1/secret",
                "/books/.%2e;/secret?q=1",
                "/books/%2e.;a;b/secret",
                "/books/%2e;/secret",
                "/books/%2e%2e%3b/secret",
                "/books/%2e%2e;",
                "/books/;x/secret",
                "/books//%2e%2e;//secret",
                "/books/%2e%2e;/%2e%2e;/secret",
            ] {
                let (status, answer) = scenario.ask(path, "").unwrap();
                assert_eq!(status, 400, "{}: {path}: {answer}", binary.display());
                assert!(answer.contains("smidge: bad request: servers do not agree"), "{answer}");
            }
            for path in ["/books/..;/secret", "/books/.;x/secret"] {
                // From 1.40 on Envoy itself reads these as dot segments, before it decodes: then they are removed.
                let (status, answer) = scenario.ask(path, "").unwrap();
                let is_followed = status == 200 && !answer.contains(';');
                assert!(status == 400 || is_followed, "{}: {path}: {answer}", binary.display());
            }
            for path in
                ["/books;v=1/x", "/;jsessionid=1", "/a/;jsessionid=1", "/a?b=/..;/", "/a...;/b", "/a/..."]
            {
                let (status, answer) = scenario.ask(path, "").unwrap();
                assert_eq!(status, 200, "{}: {path}: {answer}", binary.display());
            }
        }
    }
}

#[test]
fn a_header_that_servers_may_take_for_another_is_refused() {
    for binary in binaries::envoys() {
        let scenario = Scenario::start(&binary, AccessMode::Enforce);
        let (status, answer) = scenario.ask("/books", "x-role: good\nx_role: evil").unwrap();
        assert_eq!(status, 400, "{}: {answer}", binary.display());
        assert_eq!(scenario.ask("/books", "x-role: good").unwrap().0, 200);
        // HTTP/2: the stream is reset, the connection goes on.
        assert_eq!(
            h2(&scenario, &[("x-role", "good"), ("x_role", "evil")]),
            http2::RST_STREAM,
            "{}",
            binary.display()
        );
        assert_eq!(h2(&scenario, &[("x-role", "good")]), http2::HEADERS, "{}", binary.display());
    }
}

/// Returns the type of the first frame that answers a GET over HTTP/2.
fn h2(scenario: &Scenario, headers: &[(&str, &str)]) -> u8 {
    let stream = scenario.web.connect(at(scenario.http)).unwrap();
    http2::get(stream, headers, &[]).unwrap()[0].0
}

#[test]
fn what_an_application_would_take_passes() {
    let many: Vec<String> = (0..150).map(|number| format!("x-many-{number}: {number}")).collect();
    let large = format!("cookie: {}", "c".repeat(90_000));
    let offers = "Connection: Upgrade\nUpgrade: TLS/1.2";
    for binary in binaries::envoys() {
        let scenario = Scenario::start(&binary, AccessMode::Enforce);
        let send = |line: &str, headers: &str| {
            let head = format!("{line} HTTP/1.1\nHost: api\n{headers}");
            request(scenario.web.connect(at(scenario.http)).unwrap(), &head).unwrap()
        };
        for (what, line, headers) in [
            ("an offer of TLS", "GET /books", offers),
            ("an offer of another protocol", "GET /books", "Connection: upgrade\nUpgrade: foo"),
            ("offers of several", "GET /books", "Connection: upgrade\nUpgrade: foo/2, TLS/1.3, SPDY/3.1"),
            ("150 headers", "GET /books", &many.join("\n")),
            ("a head of 90 KB", "GET /books", &large),
        ] {
            let (status, answer) = send(line, headers);
            assert_eq!(status, 200, "{}: {what}: {answer}", binary.display());
            let seen = answer.to_lowercase();
            assert!(!seen.contains("\nupgrade:"), "{}: {what}: {answer}", binary.display());
        }
        let (status, answer) = send("CONNECT api:80", "");
        assert_eq!(status, 501, "{}: {answer}", binary.display());
        assert!(answer.contains("smidge: CONNECT is not served"), "{answer}");
        for (what, line, headers, code) in [
            ("all of the server", "OPTIONS *", String::new(), 404),
            ("an unknown method", "FOO-BAR /books", String::new(), 400),
            ("too large a head", "GET /books", format!("cookie: {}", "c".repeat(110_000)), 431),
            ("an escaped slash", "GET /books%2fx", String::new(), 400),
        ] {
            let (status, answer) = send(line, &headers);
            assert_eq!(status, code, "{}: {what}: {answer}", binary.display());
            let text = format!("smidge: the workload's proxy answers {code} (");
            assert!(answer.contains(&text), "{}: {what}: {answer}", binary.display());
        }
    }
}

#[test]
fn a_handshake_that_does_not_go_on_ends() {
    for binary in binaries::envoys() {
        let scenario = Scenario::start(&binary, AccessMode::Enforce);
        // A ClientHello and then silence; and silence from the start.
        let mut silent: Vec<_> = (0..200).map(|_| scenario.web.connect(at(scenario.http)).unwrap()).collect();
        for stream in &mut silent {
            stream.conn.write_tls(&mut stream.sock).unwrap();
        }
        let mut sockets: Vec<_> = silent.into_iter().map(|stream| stream.sock).collect();
        sockets.extend((0..20).map(|_| plain(at(scenario.http)).unwrap()));
        for socket in &mut sockets {
            // The server's own part of the handshake comes first. Ten seconds without anything are an error.
            let ended = io::copy(socket, &mut io::sink());
            let waited = ended.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            assert!(!waited, "{}: a silent connection was kept", binary.display());
        }
        assert_eq!(scenario.ask("/books", "").unwrap().0, 200, "{}", scenario.inbound.envoy.log());
    }
}
