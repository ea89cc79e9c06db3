//! A real Envoy with the inbound side of a workload judges real callers: over HTTP by name, method, path and headers,
//! over TCP by name; and a TCP connection that is no longer allowed ends.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test ends where it goes wrong"
)]

#[path = "envoy/binaries.rs"]
mod binaries;
#[path = "envoy/caller.rs"]
mod caller;
#[path = "golden/meshes.rs"]
mod meshes;
#[path = "envoy/process.rs"]
mod process;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use caller::{Authority, Leaf, plain, request};
use process::{Envoy, put};
use serde_json::{Value, json};
use smidge_xds::{
    mesh::{
        Mesh,
        access::{HttpMatch, PathEnd, PathRegex, Payload, Ports},
        id::TrustDomain,
        service::Protocol,
        trust::Bundle,
    },
    render,
    resources::Kind,
    snapshot::Snapshot,
};

/// The ports of the workload: free ones, as the listener of this test has the workload's addresses for its own.
#[derive(Clone, Copy)]
struct Town {
    http: u16,
    tcp: u16,
    other: u16,
}

impl Town {
    fn mesh(self, authority: &Authority) -> Mesh {
        let mut mesh = meshes::http();
        let bundle = Bundle { roots: BTreeSet::from([authority.pem.clone()]) };
        mesh.trust.bundles = BTreeMap::from([(TrustDomain::default(), bundle)]);
        mesh.grants.clear();
        let ports = [(self.http, Protocol::Http), (self.tcp, Protocol::Tcp), (self.other, Protocol::Tcp)];
        meshes::workload(&mut mesh, "api", 10, &ports);
        let only = |port| Ports::Only(BTreeSet::from([port]));
        meshes::grant(&mut mesh, "api", &["web"], only(self.http), Payload::Http(web()));
        meshes::grant(&mut mesh, "api", &["admin", "root"], only(self.http), Payload::Any);
        meshes::grant(&mut mesh, "api", &["web"], only(self.other), Payload::Any);
        meshes::grant(&mut mesh, "api", &["web"], only(self.tcp), Payload::Any);
        mesh
    }
}

fn web() -> BTreeSet<HttpMatch> {
    let path = |pattern: &str, end| Some(PathRegex { pattern: pattern.to_owned(), end });
    BTreeSet::from([
        HttpMatch {
            path: path("/books|/lent", PathEnd::Open),
            methods: Some(BTreeSet::from(["GET".to_owned(), "HEAD".to_owned()])),
            ..meshes::http_match("reads")
        },
        HttpMatch { path: path("/closed/[0-9]+", PathEnd::Closed), ..meshes::http_match("closed") },
        HttpMatch { path: path("/a/.*/b", PathEnd::Closed), ..meshes::http_match("inner") },
        HttpMatch {
            path: path("/headers", PathEnd::Closed),
            headers: BTreeMap::from([
                ("x-app".to_owned(), "buyer".to_owned()),
                (":authority".to_owned(), "api(\\..*)?".to_owned()),
            ]),
            ..meshes::http_match("headers")
        },
    ])
}

/// Caller, request line and headers after `Host`, and what it gets.
const VERDICTS: &[(&str, &str, &str, u16)] = &[
    ("web", "GET /books", "", 200),
    ("web", "HEAD /books", "", 200),
    ("web", "GET /books/1?q=2", "", 200),
    ("web", "GET /bookshelf", "", 200),
    ("web", "GET /lent", "", 200),
    ("web", "POST /books", "", 403),
    ("web", "PATCH /books", "", 403),
    ("web", "get /books", "", 400),
    ("web", "GET /", "", 403),
    ("web", "GET /x/books", "", 403),
    ("web", "GET /?/books", "", 403),
    ("web", "GET /BOOKS", "", 403),
    // What is judged is what the workload reads.
    ("web", "GET /x/../books", "", 200),
    ("web", "GET //books", "", 200),
    ("web", "GET /books/../secret", "", 403),
    ("web", "GET /books/%2e%2e/secret", "", 403),
    ("web", "GET /books%2f..%2fsecret", "", 400),
    ("web", "GET /%62ooks", "", 200),
    ("web", "GET /secret", "x-envoy-original-path: /books", 403),
    // A closed end, and a query that must not help to reach it.
    ("web", "DELETE /closed/12", "", 200),
    ("web", "DELETE /closed/12?x=y", "", 200),
    ("web", "DELETE /closed/12/more", "", 403),
    ("web", "GET /a/x/b", "", 200),
    ("web", "GET /a/x/b?c", "", 200),
    ("web", "GET /a/x?y/b", "", 403),
    // Headers by their whole value, all of them, and once.
    ("web", "GET /headers", "x-app: buyer", 200),
    ("web", "GET /headers", "X-App: buyer", 200),
    ("web", "GET /headers", "", 403),
    ("web", "GET /headers", "x-app: buyers", 403),
    ("web", "GET /headers", "x-app: thief", 403),
    ("web", "GET /headers", "x-app: thief\nx-app: buyer", 403),
    ("web", "GET /headers", "x-app: buyer\nx-app: thief", 403),
    // Any payload, and nobody else.
    ("admin", "DELETE /whatever", "", 200),
    ("root", "GET /secret", "", 200),
    ("cron", "GET /books", "", 403),
];

#[test]
fn envoy_judges_callers_as_the_grants_say() {
    for binary in binaries::envoys() {
        let it = Running::start(&binary);
        let callers: BTreeMap<&str, Leaf> =
            ["web", "admin", "root", "cron"].map(|name| (name, it.authority.issue(&spiffe(name)))).into();
        let wrong: Vec<String> =
            VERDICTS.iter().filter_map(|verdict| it.disagrees(&callers[verdict.0], *verdict)).collect();
        assert!(wrong.is_empty(), "{}:\n{}", binary.display(), wrong.join("\n"));
        it.refuses_other_hosts(&callers["web"]);
        it.names_the_policy(&callers["cron"]);
        it.refuses_strangers();
    }
}

#[test]
fn envoy_ends_tcp_connections_that_are_no_longer_allowed_and_no_others() {
    for binary in binaries::envoys() {
        let it = Running::start(&binary);
        let web = it.authority.issue(&spiffe("web"));
        let cron = it.authority.issue(&spiffe("cron"));
        let (tcp, other) = (at(it.town.tcp), at(it.town.other));
        assert!(echo(cron.connect(tcp).unwrap()).is_err(), "a caller without a grant was let in");
        let mut ending = echo(web.connect(tcp).unwrap()).unwrap();
        let staying = echo(web.connect(other).unwrap()).unwrap();

        // It grows: nothing happens to anybody, and the new one may come in.
        let mut mesh = it.town.mesh(&it.authority);
        meshes::grant(&mut mesh, "api", &["cron"], Ports::Only(BTreeSet::from([it.town.tcp])), Payload::Any);
        let grown = Snapshot::next(Arc::new(mesh.clone()), Some(&it.snapshot));
        it.put(&grown);
        within("the new caller gets in", || echo(cron.connect(tcp).unwrap()).is_ok());
        ending = echo(ending).unwrap();

        // It shrinks: the connections of this port end.
        let grants = mesh.grants.get_mut(&meshes::account("api")).unwrap();
        grants.retain(|grant| {
            !(grant.ports.contains(it.town.tcp) && grant.sources.contains(&meshes::account("web")))
        });
        it.put(&Snapshot::next(Arc::new(mesh), Some(&grown)));
        let since = Instant::now();
        let closed = ending.read(&mut [0]);
        assert!(
            matches!(closed, Ok(0)) || closed.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
        );
        assert!(since.elapsed() < Duration::from_secs(9), "the connection did not end");
        assert!(echo(web.connect(tcp).unwrap()).is_err(), "who lost its grant was let in again");
        echo(staying).expect("a connection of another port ended");
    }
}

/// An Envoy with the inbound side of `api`, and a workload that answers behind it.
struct Running {
    town: Town,
    authority: Authority,
    snapshot: Snapshot,
    envoy: Envoy,
}

impl Running {
    fn start(binary: &Path) -> Self {
        let [http, tcp, other] = free_ports();
        let town = Town { http, tcp, other };
        let authority = Authority::new();
        let snapshot = Snapshot::next(Arc::new(town.mesh(&authority)), None);
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.issue(&spiffe("api")).pems();
        let identity = json!({ "name": "identity", "tls_certificate": {
            "certificate_chain": { "inline_string": certificate }, "private_key": { "inline_string": key } } });
        put(folder.path(), "identity", Kind::Secret.type_url(), vec![identity]);
        write(folder.path(), town, &snapshot);
        let clusters = json!([upstream("inbound", Some(echo_server())), upstream("blackhole", None)]);
        let it = Self { town, authority, snapshot, envoy: Envoy::start(binary, folder, &clusters) };
        within("Envoy listens", || plain(at(http)).is_ok());
        it
    }

    fn put(&self, snapshot: &Snapshot) {
        write(self.envoy.folder(), self.town, snapshot);
    }

    fn disagrees(
        &self,
        caller: &Leaf,
        (name, line, headers, expected): (&str, &str, &str, u16),
    ) -> Option<String> {
        let head = format!("{line} HTTP/1.1\nHost: api\n{headers}");
        let got = request(caller.connect(at(self.town.http)).unwrap(), &head);
        match got {
            Ok((status, _)) if status == expected => None,
            got => Some(format!("{name}: {line} {headers:?}: {got:?}, not {expected}\n{}", self.envoy.log())),
        }
    }

    fn refuses_other_hosts(&self, web: &Leaf) {
        for (host, expected) in [("api.shop", 200), ("apis", 403), ("other", 403)] {
            let head = format!("GET /headers HTTP/1.1\nHost: {host}\nx-app: buyer");
            let (status, _) = request(web.connect(at(self.town.http)).unwrap(), &head).unwrap();
            assert_eq!(status, expected, "{host}");
        }
    }

    fn names_the_policy(&self, cron: &Leaf) {
        let stream = cron.connect(at(self.town.http)).unwrap();
        let (_, answer) = request(stream, "GET /books?q=1 HTTP/1.1\nHost: api").unwrap();
        let expected = "smidge: access denied by the mesh's policy: no TrafficTarget allows \
                        spiffe://cluster.local/ns/shop/sa/cron to GET /books at \
                        spiffe://cluster.local/ns/shop/sa/api";
        assert!(answer.contains(expected), "{answer}");
    }

    /// Nobody gets an answer without a certificate of the mesh's own roots for the mesh's own domain.
    fn refuses_strangers(&self) {
        let head = "GET /books HTTP/1.1\nHost: api";
        let here = at(self.town.http);
        assert!(request(plain(here).unwrap(), head).is_err(), "plaintext got an answer");
        let stranger = Authority::new().issue(&spiffe("web"));
        assert!(
            request(stranger.connect(here).unwrap(), head).is_err(),
            "another root's certificate got an answer"
        );
        let foreigner = self.authority.issue("spiffe://partner.example/ns/shop/sa/web");
        assert!(
            request(foreigner.connect(here).unwrap(), head).is_err(),
            "another domain's name got an answer"
        );
    }
}

/// Serves the inbound side of `api`, its listener at the workload's own ports instead of behind a redirection.
fn write(folder: &Path, town: Town, snapshot: &Snapshot) {
    let view = snapshot.view(&meshes::proxy("api")).unwrap();
    for resource in view.resources.values() {
        let printed = || render::resource(resource).unwrap();
        match resource.kind {
            Kind::Listener if &*resource.name == "inbound" => {
                let listener = at_ports(printed(), town);
                put(folder, "listeners", resource.kind.type_url(), vec![listener]);
            }
            Kind::Extension | Kind::Secret => {
                put(folder, &resource.name, resource.kind.type_url(), vec![printed()]);
            }
            _ => {}
        }
    }
}

fn at_ports(mut listener: Value, town: Town) -> Value {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    listener["address"] = address(town.http);
    listener["additional_addresses"] =
        json!([{ "address": address(town.tcp) }, { "address": address(town.other) }]);
    let filters = listener["listener_filters"].as_array_mut().unwrap();
    filters.retain(|filter| filter["name"] != "envoy.filters.listener.original_dst");
    listener
}

fn upstream(name: &str, address: Option<SocketAddr>) -> Value {
    let endpoint = |to: SocketAddr| {
        let address = json!({ "socket_address": { "address": to.ip(), "port_value": to.port() } });
        json!({ "endpoint": { "address": address } })
    };
    let lb_endpoints: Vec<Value> = address.into_iter().map(endpoint).collect();
    let endpoints = json!([{ "lb_endpoints": lb_endpoints }]);
    json!({ "name": name, "type": "STATIC", "load_assignment": { "cluster_name": name, "endpoints": endpoints } })
}

/// A workload: to a first line that ends in `HTTP/1.1` it answers 200, all else it sends back.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    let said = &bytes[..count];
                    let http = said.windows(10).any(|window| window == b" HTTP/1.1\r");
                    let answer = if http { b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" } else { said };
                    if stream.write_all(answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// Says something and hears it back; gives the connection on.
fn echo<S: Read + Write>(mut stream: S) -> io::Result<S> {
    stream.write_all(b"ping")?;
    let mut heard = [0; 4];
    stream.read_exact(&mut heard)?;
    assert_eq!(&heard, b"ping");
    Ok(stream)
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn spiffe(name: &str) -> String {
    meshes::account(name).to_string()
}

/// Waits for a condition, and fails by its name.
fn within(condition: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {condition}");
        thread::yield_now();
    }
}
