//! A real Envoy with the inbound side of a workload judges real callers: over HTTP by name, method, path and headers,
//! over TCP by name; and a TCP connection that is no longer allowed ends.

use smidge_xds_testing::{binaries, caller, inbound, meshes, process, trust};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use caller::{Authority, Leaf, plain, request};
use inbound::{Inbound, at, echo, echo_server, spiffe, within};
use smidge_xds::{
    mesh::{
        Mesh,
        access::{Payload, Ports},
        matches::{HttpMatch, PathEnd, PathRegex},
        service::Protocol,
    },
    snapshot::Snapshot,
};

/// The ports of the workload: free ones, as the listener of this test binds the workload's addresses itself.
#[derive(Clone, Copy)]
struct Scenario {
    http: u16,
    tcp: u16,
    other: u16,
}

impl Scenario {
    fn mesh(self, authority: &Authority) -> Mesh {
        let mut mesh = trust::http_trusting(authority);
        mesh.grants.clear();
        let ports = [(self.http, Protocol::Http), (self.tcp, Protocol::Tcp), (self.other, Protocol::Tcp)];
        meshes::workload(&mut mesh, "api", 10, &ports);
        let only = |port| Ports::Only(BTreeSet::from([port]));
        meshes::grant(&mut mesh, "api", &["web"], only(self.http), Payload::http("shop/api", web()));
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
            path: path("/books\\.v1\\.Shelf/(Get|List)", PathEnd::Closed),
            methods: Some(BTreeSet::from(["POST".to_owned()])),
            headers: BTreeMap::from([("content-type".to_owned(), "application/grpc(\\+.*)?".to_owned())]),
            ..meshes::http_match("grpc")
        },
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

/// Caller, request line and headers after `Host`, and the expected status.
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
    // The judged path is the one that the workload reads.
    ("web", "GET /x/../books", "", 200),
    ("web", "GET //books", "", 200),
    ("web", "GET /books/../secret", "", 403),
    ("web", "GET /books/%2e%2e/secret", "", 403),
    ("web", "GET /books%2f..%2fsecret", "", 400),
    ("web", "GET /books%2F1", "", 400),
    ("web", "GET /books%5c1", "", 400),
    ("web", "GET /books?at=%2F", "", 200),
    ("web", "GET /books%252f..%252fsecret", "", 200),
    ("web", "GET /./books", "", 200),
    ("web", "GET /x/.//../books", "", 403),
    ("web", "GET /books/./..//secret", "", 403),
    ("web", "GET /books/..", "", 403),
    ("web", "GET /../../books", "", 200),
    ("web", "GET /secret?/../books", "", 403),
    ("web", "GET /%42OOKS", "", 403),
    ("web", "GET http://api/books", "", 200),
    ("web", "GET http://api/secret?/books", "", 403),
    ("web", "GET /books\\..\\secret", "", 403),
    ("web", "GET /books/.%2E/secret", "", 403),
    // Dot segments first, then slashes; the workload reads /books/secret.
    ("web", "GET /books//..//secret", "", 200),
    ("web", "GET /books#/../secret", "", 400),
    ("web", "GET /books%00", "", 400),
    ("web", "GET /books%20x", "", 200),
    ("web", "GET /books;v=1/x", "", 200),
    // gRPC is a POST to /package.Service/Method; a denial is reported in gRPC's own form, status 7.
    ("web", "POST /books.v1.Shelf/Get", "content-type: application/grpc", 200),
    ("web", "POST /books.v1.Shelf/List", "content-type: application/grpc+proto", 200),
    ("web", "POST /books.v1.Shelf/Burn", "content-type: application/grpc", 7),
    ("web", "POST /booksXv1.Shelf/Get", "content-type: application/grpc", 7),
    ("web", "GET /books.v1.Shelf/Get", "content-type: application/grpc", 200),
    ("web", "PUT /books.v1.Shelf/Get", "content-type: application/grpc", 7),
    ("web", "GET /%62ooks", "", 200),
    ("web", "GET /secret", "x-envoy-original-path: /books", 403),
    // A closed end, and a query that must not help to match it.
    ("web", "DELETE /closed/12", "", 200),
    ("web", "DELETE /closed/12?x=y", "", 200),
    ("web", "DELETE /closed/12/more", "", 403),
    ("web", "GET /a/x/b", "", 200),
    ("web", "GET /a/x/b?c", "", 200),
    ("web", "GET /a/x?y/b", "", 403),
    // Headers match by their whole value, with all lines, and only once.
    ("web", "GET /headers", "x-app: buyer", 200),
    ("web", "GET /headers", "X-App: buyer", 200),
    ("web", "GET /headers", "", 403),
    ("web", "GET /headers", "x-app: buyers", 403),
    ("web", "GET /headers", "x-app: thief", 403),
    ("web", "GET /headers", "x-app: thief\nx-app: buyer", 403),
    ("web", "GET /headers", "x-app: buyer\nx-app: thief", 403),
    // Callers that are allowed any payload, and a caller that is allowed nothing.
    ("admin", "DELETE /whatever", "", 200),
    ("root", "GET /secret", "", 200),
    ("cron", "GET /books", "", 403),
];

#[test]
fn envoy_judges_callers_as_the_grants_say() {
    for binary in binaries::envoys() {
        let it = Running::start(&binary);
        let callers: BTreeMap<&str, Leaf> = ["web", "admin", "root", "cron"]
            .map(|name| (name, it.inbound.authority.issue(&spiffe(name))))
            .into();
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
        let web = it.inbound.authority.issue(&spiffe("web"));
        let cron = it.inbound.authority.issue(&spiffe("cron"));
        let (tcp, other) = (at(it.scenario.tcp), at(it.scenario.other));
        assert!(echo(cron.connect(tcp).unwrap()).is_err(), "a caller without a grant was let in");
        let mut ending = echo(web.connect(tcp).unwrap()).unwrap();
        let staying = echo(web.connect(other).unwrap()).unwrap();

        // The policy grows: no connection ends, and the new caller is admitted.
        let mut mesh = it.scenario.mesh(&it.inbound.authority);
        meshes::grant(
            &mut mesh,
            "api",
            &["cron"],
            Ports::Only(BTreeSet::from([it.scenario.tcp])),
            Payload::Any,
        );
        let grown = Snapshot::next(Arc::new(mesh.clone()), Some(&it.snapshot));
        it.inbound.put(&grown);
        within("the new caller gets in", || echo(cron.connect(tcp).unwrap()).is_ok());
        ending = echo(ending).unwrap();

        // The policy shrinks: the connections of this port end.
        let grants = Arc::make_mut(mesh.grants.get_mut(&meshes::account("api")).unwrap());
        grants.retain(|grant| {
            !(grant.ports.contains(it.scenario.tcp) && grant.sources.contains(&meshes::account("web")))
        });
        it.inbound.put(&Snapshot::next(Arc::new(mesh), Some(&grown)));
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
    scenario: Scenario,
    snapshot: Snapshot,
    inbound: Inbound,
}

impl Running {
    fn start(binary: &Path) -> Self {
        let [http, tcp, other] = process::reserved_ports();
        let scenario = Scenario { http, tcp, other };
        let authority = Authority::generate();
        let snapshot = Snapshot::next(Arc::new(scenario.mesh(&authority)), None);
        let inbound = Inbound::start(binary, authority, &[http, tcp, other], &snapshot, echo_server(""));
        Self { scenario, snapshot, inbound }
    }

    fn disagrees(
        &self,
        caller: &Leaf,
        (name, line, headers, expected): (&str, &str, &str, u16),
    ) -> Option<String> {
        let head = format!("{line} HTTP/1.1\nHost: api\n{headers}");
        let got = request(caller.connect(at(self.scenario.http)).unwrap(), &head);
        let in_grpc = |(status, answer): (u16, String)| {
            let denied = answer.contains("\r\ngrpc-status: 7\r\n");
            (if denied { 7 } else { status }, answer)
        };
        match got.map(in_grpc) {
            Ok((status, _)) if status == expected => None,
            got => Some(format!(
                "{name}: {line} {headers:?}: {got:?}, not {expected}\n{}",
                self.inbound.envoy.log()
            )),
        }
    }

    fn refuses_other_hosts(&self, web: &Leaf) {
        for (host, expected) in [("api.shop", 200), ("apis", 403), ("api:8080", 403), ("other", 403)] {
            let head = format!("GET /headers HTTP/1.1\nHost: {host}\nx-app: buyer");
            let (status, _) = request(web.connect(at(self.scenario.http)).unwrap(), &head).unwrap();
            assert_eq!(status, expected, "{host}");
        }
    }

    fn names_the_policy(&self, cron: &Leaf) {
        let stream = cron.connect(at(self.scenario.http)).unwrap();
        let (_, answer) = request(stream, "GET /books?q=1 HTTP/1.1\nHost: api").unwrap();
        let expected = "smidge: access denied by the mesh's policy: no TrafficTarget allows \
                        spiffe://cluster.local/ns/shop/sa/cron to GET /books at \
                        spiffe://cluster.local/ns/shop/sa/api";
        assert!(answer.contains(expected), "{answer}");
    }

    /// Checks that a peer gets no answer without a certificate of the mesh's own roots for the mesh's own domain.
    fn refuses_strangers(&self) {
        let head = "GET /books HTTP/1.1\nHost: api";
        let here = at(self.scenario.http);
        assert!(request(plain(here).unwrap(), head).is_err(), "plaintext got an answer");
        let stranger = Authority::generate().issue(&spiffe("web"));
        assert!(
            request(stranger.connect(here).unwrap(), head).is_err(),
            "another root's certificate got an answer"
        );
        let foreigner = self.inbound.authority.issue("spiffe://partner.example/ns/shop/sa/web");
        assert!(
            request(foreigner.connect(here).unwrap(), head).is_err(),
            "another domain's name got an answer"
        );
    }
}
