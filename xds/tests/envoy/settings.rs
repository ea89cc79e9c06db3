//! The settings of the mesh in real Envoys: limits of heads on both sides, and the header that names the verified
//! caller, which no caller can set.

use smidge_xds_testing::{
    binaries,
    caller::{Authority, plain, request},
    http1::{Script, Scripted},
    http2,
    inbound::{self, Inbound, at, spiffe},
    meshes,
    outbound::Outbound,
    process, trust,
};
use std::{net::SocketAddr, path::Path, sync::Arc};

use smidge_xds::{
    mesh::{
        Mesh,
        access::{AccessMode, MtlsMode},
        service::Protocol,
        settings::Settings,
    },
    snapshot::Snapshot,
};

const CALLER: &str = "x-smidge-caller: spiffe://cluster.local/ns/shop/sa/web\r\n";

/// Builds a mesh in which `web` calls `api`, whose proxy listens at these ports.
fn mesh(authority: &Authority, ports: &[(u16, Protocol)], settings: &Settings) -> Mesh {
    let mut mesh = trust::pair(authority, ports);
    mesh.settings = settings.clone();
    mesh
}

fn headers(count: usize) -> String {
    (0..count).map(|number| format!("x-many-{number}: {number}\n")).collect::<Vec<_>>().concat()
}

#[test]
fn limits_are_those_of_the_settings_on_both_sides() {
    let large = |size| format!("x-large: {}\n", "l".repeat(size));
    let narrow = Settings { max_headers: 20, max_head_kib: 8, ..Settings::default() };
    let wide = Settings { max_headers: 3_000, max_head_kib: 300, ..Settings::default() };
    for binary in binaries::envoys() {
        for (settings, fits, exceeds) in [
            (&narrow, [headers(10), large(6_000)], [headers(30), large(10_000)]),
            (&wide, [headers(2_500), large(290_000)], [headers(3_500), large(310_000)]),
        ] {
            let [port, outer] = process::reserved_ports();
            let authority = Authority::generate();
            let snapshot =
                Snapshot::next(Arc::new(mesh(&authority, &[(port, Protocol::Http)], settings)), None);
            let server = Scripted::start();
            let inbound = Inbound::start(&binary, authority, &[port], &snapshot, server.address);
            let listener = ("outbound/10.96.0.10:80", outer);
            let outbound = Outbound::start(&binary, &inbound.authority, listener, &snapshot, at(port));
            let web = inbound.authority.issue(&spiffe("web"));
            let ask = |sent: &str, answered: &str, is_direct: bool| {
                let answer =
                    format!("HTTP/1.1 200 OK\n{answered}content-length: 0\n\n").replace('\n', "\r\n");
                server.set(Script { answer, ..Script::default() });
                let head = format!("GET / HTTP/1.1\nHost: api\n{sent}");
                let answer = if is_direct {
                    request(web.connect(at(port)).unwrap(), &head)
                } else {
                    request(plain(outbound.address()).unwrap(), &head)
                };
                answer.unwrap()
            };
            let what = format!("{}, {settings:?}", binary.display());
            for is_direct in [false, true] {
                for fits in &fits {
                    assert_eq!(ask(fits, fits, is_direct).0, 200, "{what}");
                }
                for exceeds in &exceeds {
                    let (status, answer) = ask(exceeds, "", is_direct);
                    assert_eq!(status, 431, "{what}: {answer}");
                    assert!(answer.contains("smidge: the "), "{what}: {answer}");
                    let (status, answer) = ask("", exceeds, is_direct);
                    assert_eq!(status, 502, "{what}: {answer}");
                    assert!(answer.contains("smidge: the "), "{what}: {answer}");
                }
            }
        }
    }
}

/// Starts the proxy of `api`, which names its callers or not, with an HTTP port and one with detection.
fn naming(binary: &Path, names_caller: bool, mtls: MtlsMode, workload: SocketAddr) -> (Inbound, [u16; 2]) {
    let [http, detect] = process::reserved_ports();
    let authority = Authority::generate();
    let settings = Settings { names_caller, ..Settings::default() };
    let ports = [(http, Protocol::Http), (detect, Protocol::Detect)];
    let mut mesh = mesh(&authority, &ports, &settings);
    meshes::each_class(&mut mesh, |class| (class.access, class.mtls) = (AccessMode::Permissive, mtls));
    let snapshot = Snapshot::next(Arc::new(mesh), None);
    (Inbound::start(binary, authority, &[http, detect], &snapshot, workload), [http, detect])
}

/// Requests that pretend to be of another caller.
const CLAIMS: [&str; 7] = [
    "",
    "x-smidge-caller: spiffe://cluster.local/ns/shop/sa/admin",
    "X-Smidge-Caller: claim\nX-SMIDGE-CALLER: claim",
    "connection: x-smidge-caller",
    "x-smidge-caller: claim\nx-smidge-caller-too: claim",
    "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/shop/sa/admin",
    "x-smidge-caller:",
];

#[test]
fn the_application_learns_the_verified_caller_and_no_claim() {
    for binary in binaries::envoys() {
        for mtls in [MtlsMode::Strict, MtlsMode::Permissive] {
            for names_caller in [true, false] {
                let (inbound, ports) = naming(&binary, names_caller, mtls, inbound::mirror_server());
                let web = inbound.authority.issue(&spiffe("web"));
                for (port, claim) in ports.iter().flat_map(|port| CLAIMS.map(|claim| (*port, claim))) {
                    let what = format!("{}, {mtls:?}, {names_caller}: {claim}", binary.display());
                    let head = format!("GET / HTTP/1.1\nHost: api\n{claim}");
                    let (status, seen) =
                        request(web.connect_as(at(port), &["http/1.1"]).unwrap(), &head).unwrap();
                    assert_eq!(status, 200, "{what}: {seen}");
                    // A claim leaves the case of its name behind.
                    let seen = seen.to_lowercase();
                    assert_eq!(seen.matches(CALLER).count(), usize::from(names_caller), "{what}: {seen}");
                    assert_eq!(seen.matches("smidge").count(), usize::from(names_caller), "{what}: {seen}");
                    assert!(!seen.contains("claim") && !seen.contains("admin"), "{what}: {seen}");
                    if mtls == MtlsMode::Permissive {
                        let (status, seen) = request(plain(at(port)).unwrap(), &head).unwrap();
                        assert_eq!(status, 200, "{what}: {seen}");
                        assert!(!seen.to_lowercase().contains("smidge"), "{what}: {seen}");
                    }
                }
                for claim in ["x_smidge_caller: claim", "X-Smidge_Caller: claim"] {
                    let head = format!("GET / HTTP/1.1\nHost: api\n{claim}");
                    let (status, seen) = request(web.connect(at(ports[0])).unwrap(), &head).unwrap();
                    assert_eq!(status, 400, "{}: {seen}", binary.display());
                }
            }
        }
    }
}

#[test]
fn it_learns_the_caller_over_http2_and_no_claim_in_trailers() {
    let claim = ("x-smidge-caller", "claim");
    for binary in binaries::envoys() {
        let (inbound, ports) = naming(&binary, true, MtlsMode::Strict, http2::mirror_server());
        let web = inbound.authority.issue(&spiffe("web"));
        for (headers, trailers) in
            [(vec![], vec![]), (vec![claim, claim], vec![]), (vec![], vec![claim, ("x-sum", "claim")])]
        {
            let frames = http2::get(web.connect(at(ports[0])).unwrap(), &headers, &trailers).unwrap();
            let seen: Vec<u8> = frames
                .iter()
                .filter(|(kind, _)| *kind == http2::DATA)
                .flat_map(|(_, data)| data.clone())
                .collect();
            let seen = String::from_utf8(seen).unwrap();
            let what = format!("{}, {headers:?}, {trailers:?}: {seen}", binary.display());
            assert_eq!(seen.matches(CALLER).count(), 1, "{what}");
            assert!(!seen.contains("claim"), "{what}");
        }
        let frames =
            http2::get(web.connect(at(ports[0])).unwrap(), &[("x_smidge_caller", "claim")], &[]).unwrap();
        assert_eq!(frames[0].0, http2::RST_STREAM, "{}", binary.display());
    }
}
