//! A real Envoy through the access modes: what each lets in, what audit reports about it, and that a change of mode
//! ends no connection that both modes allow.

use smidge_xds_testing::{binaries, caller, inbound, meshes, process, trust};
use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use caller::{Authority, Leaf, client_hello, plain, request};
use inbound::{Inbound, at, echo, echo_server, spiffe, within};
use smidge_xds::{
    mesh::{
        Mesh,
        access::{AccessMode, MtlsMode, Payload, Ports},
        matches::{HttpMatch, PathEnd, PathRegex},
        service::Protocol,
    },
    resources::ResourceType,
    snapshot::Snapshot,
};

const MODES: [AccessMode; 3] = [AccessMode::Enforce, AccessMode::Audit, AccessMode::Permissive];

/// The ports of the workload: one for each protocol, and one that is not declared.
#[derive(Clone, Copy)]
struct Scenario {
    http: u16,
    tcp: u16,
    stray: u16,
    mtls: MtlsMode,
}

impl Scenario {
    fn new(mtls: MtlsMode) -> Self {
        let [http, tcp, stray] = process::reserved_ports();
        Self { http, tcp, stray, mtls }
    }

    /// Makes a mesh where `web` may GET /books and connect to the TCP port, and no other caller may do anything.
    fn mesh(self, authority: &Authority, access: AccessMode) -> Mesh {
        let mut mesh = trust::http_trusting(authority);
        mesh.grants.clear();
        meshes::workload(&mut mesh, "api", 10, &[(self.http, Protocol::Http), (self.tcp, Protocol::Tcp)]);
        let books = HttpMatch {
            path: Some(PathRegex { pattern: "/books".to_owned(), end: PathEnd::Open }),
            ..meshes::http_match("books")
        };
        let only = |port| Ports::Only(BTreeSet::from([port]));
        let http = Payload::http("shop/api", [books]);
        meshes::grant(&mut mesh, "api", &["web"], only(self.http), http);
        meshes::grant(&mut mesh, "api", &["web"], only(self.tcp), Payload::Any);
        meshes::each_class(&mut mesh, |class| (class.access, class.mtls) = (access, self.mtls));
        mesh
    }

    fn start(self, binary: &Path, access: AccessMode, greeting: &'static str) -> (Inbound, Snapshot) {
        let authority = Authority::generate();
        let snapshot = Snapshot::next(Arc::new(self.mesh(&authority, access)), None);
        let ports = [self.http, self.tcp, self.stray];
        (Inbound::start(binary, authority, &ports, &snapshot, echo_server(greeting)), snapshot)
    }
}

#[test]
fn audit_lets_through_counts_and_logs_what_enforcement_would_refuse() {
    for binary in binaries::envoys() {
        let scenario = Scenario::new(MtlsMode::Strict);
        let (it, _) = scenario.start(&binary, AccessMode::Audit, "");
        let [web, cron] = ["web", "cron"].map(|name| it.authority.issue(&spiffe(name)));
        assert_eq!(status(&web, scenario.http, "GET /books"), 200);
        assert_eq!(status(&web, scenario.http, "POST /secret path=/books?token=x"), 400);
        assert_eq!(status(&web, scenario.http, "POST /secret?token=x"), 200);
        assert_eq!(status(&cron, scenario.http, "GET /books/1"), 200);
        drop(echo(web.connect(at(scenario.tcp)).unwrap()).unwrap());
        let lasting = echo(cron.connect(at(scenario.tcp)).unwrap()).unwrap();
        let line = |caller: &str, port: u16, policies: &str, rest: &str| {
            format!(
                "smidge: audit: would be denied: source={} destination={} port={port} policies={policies} {rest}",
                spiffe(caller),
                spiffe("api")
            )
        };
        let mut expected = BTreeSet::from([
            line("web", scenario.http, "shop/api-0", "method=POST path=/secret"),
            line("cron", scenario.http, "shop/api-0", "method=GET path=/books/1"),
            line("cron", scenario.tcp, "shop/api-1", "event=TcpPeriodic"),
        ]);
        let said = || it.envoy.said().lines().map(str::to_owned).collect::<BTreeSet<_>>();
        within(&format!("audit says {expected:#?}"), || said().is_superset(&expected));
        assert_eq!(said(), expected, "{}", binary.display());
        drop(lasting);
        expected.insert(line("cron", scenario.tcp, "shop/api-1", "event=TcpConnectionEnd"));
        within(&format!("audit says {expected:#?}"), || said() == expected);
        let http = format!("inbound/{}/http.rbac.shadow_denied", scenario.http);
        assert_eq!(it.envoy.stat(&http), Some(2));
        assert_eq!(it.envoy.stat("inbound.rbac.shadow_denied"), Some(1));
    }
}

#[test]
fn a_switch_ends_no_connection_but_what_enforcement_no_longer_allows() {
    for binary in binaries::envoys() {
        let scenario = Scenario::new(MtlsMode::Strict);
        let (it, mut snapshot) = scenario.start(&binary, AccessMode::Enforce, "");
        let [web, cron] = ["web", "cron"].map(|name| it.authority.issue(&spiffe(name)));
        // One request after another on one connection, over every change of mode.
        let mut asking = web.connect(at(scenario.http)).unwrap();
        ask(&mut asking);
        let mut open = None;
        for mode in [1, 2, 1, 0, 2, 0].map(|mode| MODES[mode]) {
            let talking = echo(web.connect(at(scenario.tcp)).unwrap()).unwrap();
            snapshot = Snapshot::next(Arc::new(scenario.mesh(&it.authority, mode)), Some(&snapshot));
            it.put(&snapshot);
            let expected = if mode == AccessMode::Enforce { 403 } else { 200 };
            within(&format!("{mode:?} holds"), || status(&cron, scenario.http, "GET /") == expected);
            ask(&mut asking);
            if mode == AccessMode::Enforce {
                let ended = open.take().map(|mut stream| ends(&mut stream));
                assert_eq!(ended, Some(true), "what is no longer allowed went on");
                within("nobody new gets in", || cron.connect(at(scenario.tcp)).and_then(echo).is_err());
            } else {
                echo(talking).expect("a connection ended at a switch that refuses nobody");
                within("everybody gets in", || {
                    open = cron.connect(at(scenario.tcp)).and_then(echo).ok();
                    open.is_some()
                });
            }
            echo(web.connect(at(scenario.tcp)).unwrap()).expect("who is allowed in every mode got in");
        }
    }
}

#[test]
fn a_switch_of_mtls_ends_plaintext_and_no_connection_of_the_mesh() {
    for binary in binaries::envoys() {
        let scenario = Scenario::new(MtlsMode::Strict);
        let (it, mut snapshot) = scenario.start(&binary, AccessMode::Permissive, "");
        let web = it.authority.issue(&spiffe("web"));
        let mut asking = web.connect(at(scenario.http)).unwrap();
        ask(&mut asking);
        let mut talking = echo(web.connect(at(scenario.tcp)).unwrap()).unwrap();
        let mut outsider = None;
        for mtls in [MtlsMode::Permissive, MtlsMode::Strict, MtlsMode::Permissive, MtlsMode::Strict] {
            let mesh = Scenario { mtls, ..scenario }.mesh(&it.authority, AccessMode::Permissive);
            snapshot = Snapshot::next(Arc::new(mesh), Some(&snapshot));
            it.put(&snapshot);
            if mtls == MtlsMode::Permissive {
                within("plaintext is accepted", || {
                    outsider = plain(at(scenario.tcp)).and_then(echo).ok();
                    outsider.is_some()
                });
            } else {
                // It ends when its chain has drained, and so would every other connection to a listener that was replaced.
                let mut outsider = outsider.take().unwrap_or_else(|| plain(at(scenario.tcp)).unwrap());
                within("plaintext has ended", || ends(&mut outsider));
                within("plaintext is refused", || plain(at(scenario.tcp)).and_then(echo).is_err());
            }
            ask(&mut asking);
            talking = echo(talking).expect("a connection of the mesh ended at a switch of mTLS");
        }
        assert_eq!(it.envoy.stat("listener_manager.listener_modified"), Some(4));
        assert_eq!(it.envoy.stat("listener_manager.listener_in_place_updated"), Some(4));
    }
}

#[test]
fn plaintext_callers_get_no_byte_where_access_is_enforced() {
    for binary in binaries::envoys() {
        let scenario = Scenario::new(MtlsMode::Permissive);
        let (it, mut snapshot) = scenario.start(&binary, AccessMode::Enforce, "hello");
        for mode in [0, 1, 0, 2, 0].map(|mode| MODES[mode]) {
            snapshot = Snapshot::next(Arc::new(scenario.mesh(&it.authority, mode)), Some(&snapshot));
            it.put(&snapshot);
            for port in [scenario.tcp, scenario.stray] {
                let is_greeted = || plain(at(port)).is_ok_and(|mut stream| greeting(&mut stream) == "hello");
                let expected = mode != AccessMode::Enforce;
                within(&format!("{mode:?} at {port}: {expected}"), || is_greeted() == expected);
                assert_eq!(is_greeted(), expected, "{mode:?}");
            }
        }
        let stray = format!(" port={} policies=none event=TcpConnectionEnd", scenario.stray);
        within("audit says what came to a port that nobody named", || it.envoy.said().contains(&stray));
    }
}

#[test]
fn a_switch_changes_rules_and_at_most_the_marks_of_a_listener() {
    for mtls in [MtlsMode::Strict, MtlsMode::Permissive] {
        let scenario = Scenario::new(mtls);
        let authority = Authority::generate();
        for (from, to) in MODES.iter().flat_map(|from| MODES.map(|to| (*from, to))) {
            let before = Snapshot::next(Arc::new(scenario.mesh(&authority, from)), None);
            let after = Snapshot::next(Arc::new(scenario.mesh(&authority, to)), Some(&before));
            let listener = |snapshot: &Snapshot| {
                let view = snapshot.view(&meshes::proxy("api")).unwrap();
                Arc::clone(view.get(ResourceType::Listener, "inbound").unwrap())
            };
            let (before, after) = (listener(&before), listener(&after));
            assert!(after.version.is_held_as(&before.version), "{from:?} to {to:?}");
            let shrinks = to == AccessMode::Enforce && from != to;
            assert_eq!(before.body != after.body, shrinks, "{from:?} to {to:?}");
        }
    }
}

fn status(caller: &Leaf, port: u16, line: &str) -> u16 {
    request(caller.connect(at(port)).unwrap(), &format!("{line} HTTP/1.1\nHost: api")).unwrap().0
}

/// Sends one request that is always allowed, on a connection that stays open.
fn ask(stream: &mut (impl Read + Write)) {
    stream.write_all(b"GET /books HTTP/1.1\r\nHost: api\r\n\r\n").unwrap();
    let mut answer = [0; 4096];
    let count = stream.read(&mut answer).unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..count]));
}

fn ends(stream: &mut impl Read) -> bool {
    let read = stream.read(&mut [0]);
    matches!(read, Ok(0)) || read.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
}

fn greeting(stream: &mut impl Read) -> String {
    let mut bytes = [0; 16];
    let count = stream.read(&mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[test]
fn tls_of_the_workload_is_bytes_at_a_port_with_detection() {
    for binary in binaries::envoys() {
        let authority = Authority::generate();
        let scenario = Scenario::new(MtlsMode::Permissive);
        let mut mesh = scenario.mesh(&authority, AccessMode::Permissive);
        meshes::workload(&mut mesh, "api", 10, &[(scenario.http, Protocol::Detect)]);
        meshes::each_class(&mut mesh, |class| {
            (class.access, class.mtls) = (AccessMode::Permissive, MtlsMode::Permissive);
        });
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let it = Inbound::start(&binary, authority, &[scenario.http], &snapshot, echo_server(""));
        let hello = client_hello("application.example", &["h2", "http/1.1"]);
        let mut stream = plain(at(scenario.http)).unwrap();
        stream.write_all(&hello).unwrap();
        let mut back = vec![0; hello.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == hello, "{}: other bytes came back", binary.display());
        drop(it);
    }
}
