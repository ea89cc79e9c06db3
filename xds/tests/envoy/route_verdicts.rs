//! A real Envoy with the outbound side of a workload sends real requests: those that a split's matches match to the
//! backends, all others to the Service's own endpoints; and no header of this decision leaves the proxy.

use smidge_xds_testing::{binaries, caller, meshes, process};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use caller::{plain, request};
use process::{Envoy, put};
use serde_json::{Value, json};
use smidge_xds::{
    mesh::{
        Mesh,
        matches::{HttpMatch, PathEnd, PathRegex},
        route::Route,
    },
    render,
    resources::ResourceType,
    snapshot::Snapshot,
};

fn mesh() -> Mesh {
    let mut mesh = meshes::http_split(&[1]);
    let path = |pattern: &str, end| Some(PathRegex { pattern: pattern.to_owned(), end });
    let matches = vec![
        HttpMatch {
            path: path("/beta", PathEnd::Open),
            methods: Some(BTreeSet::from(["GET".to_owned(), "PUT".to_owned()])),
            ..meshes::http_match("beta")
        },
        HttpMatch { path: path("/a/.*/b", PathEnd::Closed), ..meshes::http_match("inner") },
        HttpMatch {
            headers: BTreeMap::from([
                ("x-canary".to_owned(), "yes|true".to_owned()),
                (":authority".to_owned(), "api(\\..*)?".to_owned()),
            ]),
            ..meshes::http_match("headers")
        },
    ];
    meshes::split(&mut mesh, "api", 80, Some(matches), &[1]);
    let rest = Route::own(meshes::id("api"));
    meshes::port(&mut mesh, "api", 80).route.rules.extend(rest.rules);
    mesh
}

/// Request line, headers, and true if it is split.
const VERDICTS: &[(&str, &str, bool)] = &[
    ("GET /beta", "", true),
    ("GET /betamax?x", "", true),
    ("POST /beta", "", false),
    ("PUT /beta", "", true),
    ("GET /BETA", "", false),
    ("GET /", "", false),
    ("GET /x/beta", "", false),
    // The path as the server will read it.
    ("GET /x/../beta", "", true),
    ("GET //beta", "", true),
    ("GET /%62eta", "", true),
    ("GET /beta/../own", "", false),
    // The query is not part of the path, and neither are headers of callers that state a path.
    ("GET /a/x/b", "", true),
    ("GET /a/x/b?c", "", true),
    ("GET /a/x?y/b", "", false),
    ("GET /own", "x-smidge-path: /beta", false),
    ("GET /own", "X-Smidge-Path: /beta\nx-smidge-path: /beta", false),
    ("GET /own", "x-envoy-original-path: /beta", false),
    // Headers match by their whole value, and only once.
    ("GET /own", "x-canary: yes", true),
    ("GET /own", "X-Canary: true", true),
    ("GET /own", "x-canary: yesterday", false),
    ("GET /own", "x-canary: yes\nx-canary: no", false),
    ("GET /own", "x-canary: no\nx-canary: yes", false),
];

#[test]
fn envoy_splits_what_matches_and_nothing_else() {
    for binary in binaries::envoys() {
        let it = Running::start(&binary);
        let wrong: Vec<String> = VERDICTS.iter().filter_map(|verdict| it.disagrees(*verdict)).collect();
        assert!(wrong.is_empty(), "{}:\n{}", binary.display(), wrong.join("\n"));
        let (_, answer) = it.ask("GET /own", "x-canary: yes", "other");
        assert!(answer.starts_with("api\n"), "another host was split: {answer}");
        let (_, answer) = it.ask("GET //x/../beta?q=//", "x-smidge-path: /forged", "api");
        assert!(answer.starts_with("api-v1\nGET /beta?q=// HTTP/1.1\r\n"), "not what was asked: {answer}");
        assert!(!answer.contains("x-smidge-path"), "the proxy's own header left it: {answer}");
    }
}

/// An Envoy with the outbound side of `web`, and two Services that return their names.
struct Running {
    at: SocketAddr,
    envoy: Envoy,
}

impl Running {
    fn start(binary: &Path) -> Self {
        let [port] = process::reserved_ports();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::next(Arc::new(mesh()), None);
        let view = snapshot.view(&meshes::proxy("web")).unwrap();
        for resource in view.resources.values() {
            let printed = || render::resource(resource).unwrap();
            match resource.kind {
                ResourceType::Listener if &*resource.name == "outbound/10.96.0.10:80" => {
                    put(folder.path(), "listeners", resource.kind.type_url(), vec![moved(printed(), at)]);
                }
                ResourceType::Route | ResourceType::Extension => {
                    put(folder.path(), &resource.name, resource.kind.type_url(), vec![printed()]);
                }
                _ => {}
            }
        }
        let clusters = json!([upstream("api"), upstream("api-v1")]);
        let it = Self { at, envoy: Envoy::start(binary, folder, &clusters) };
        let deadline = Instant::now() + Duration::from_secs(20);
        while plain(at).is_err() {
            assert!(Instant::now() < deadline, "not within 20 s: Envoy listens\n{}", it.envoy.log());
            thread::yield_now();
        }
        it
    }

    fn ask(&self, line: &str, headers: &str, host: &str) -> (u16, String) {
        let head = format!("{line} HTTP/1.1\nHost: {host}\n{headers}");
        let (status, answer) = request(plain(self.at).unwrap(), &head).unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    fn disagrees(&self, (line, headers, is_split): (&str, &str, bool)) -> Option<String> {
        let (status, answer) = self.ask(line, headers, "api");
        let expected = if is_split { "api-v1" } else { "api" };
        let is_right = status == 200 && answer.lines().next() == Some(expected);
        (!is_right).then(|| format!("{line} {headers:?}: {status} {answer:?}, not {expected}"))
    }
}

/// Returns the listener with a port of this machine, instead of the virtual one.
fn moved(mut listener: Value, at: SocketAddr) -> Value {
    listener["address"]["socket_address"] = json!({ "address": at.ip(), "port_value": at.port() });
    listener.as_object_mut().unwrap().remove("bind_to_port");
    listener
}

fn upstream(service: &str) -> Value {
    let name = format!("{}/{service}/80", meshes::NAMESPACE);
    let to = naming_server(service.to_owned());
    let address = json!({ "socket_address": { "address": to.ip(), "port_value": to.port() } });
    let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": address } }] }]);
    json!({ "name": name, "type": "STATIC", "load_assignment": { "cluster_name": name, "endpoints": endpoints } })
}

/// Answers every request with its name and the request.
fn naming_server(name: String) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, name) = (stream.unwrap(), name.clone());
            thread::spawn(move || {
                let mut bytes = [0; 8192];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    let text = format!("{name}\n{}", String::from_utf8_lossy(&bytes[..count]));
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}
