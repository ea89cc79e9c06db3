//! Statistics by which a real Envoy counts its traffic: requests and connections by the peer that its certificate names,
//! refused calls, and calls that found no server.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use smidge_xds::{
    mesh::{
        Mesh,
        access::{Payload, Ports},
        proxy::TrafficStats,
        service::Protocol,
    },
    snapshot::Snapshot,
};
use smidge_xds_testing::{
    binaries,
    caller::{Authority, plain, request},
    inbound::{Inbound, at, echo, echo_server, spiffe},
    meshes,
    outbound::Outbound,
    process::{self, Envoy},
    trust,
};

#[test]
fn requests_are_counted_by_peer_and_outcome() {
    for binary in counting() {
        let [http, tcp] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = mesh(&authority, binaries::traffic(&binary));
        meshes::workload(&mut mesh, "api", 10, &[(http, Protocol::Http), (tcp, Protocol::Tcp)]);
        meshes::grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
        meshes::each_class(&mut mesh, |class| class.traffic = binaries::traffic(&binary));
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let inbound = Inbound::start(&binary, authority, &[http, tcp], &snapshot, echo_server(""));
        let call = |name: &str| {
            let leaf = inbound.authority.issue(&spiffe(name));
            request(leaf.connect(at(http)).unwrap(), "GET /books HTTP/1.1\nHost: api\n").unwrap().0
        };
        assert_eq!((0..3).map(|_| call("web")).collect::<Vec<_>>(), [200; 3]);
        assert_eq!((0..2).map(|_| call("cron")).collect::<Vec<_>>(), [403; 2]);
        drop(echo(inbound.authority.issue(&spiffe("web")).connect(at(tcp)).unwrap()).unwrap());

        let web = ["peer_id=\"spiffe://cluster.local/ns/shop/sa/web\""];
        let cron = ["peer_id=\"spiffe://cluster.local/ns/shop/sa/cron\""];
        let envoy = &inbound.envoy;
        expect(envoy, "inbound_requests", &[&web[..], &["code=\"200\"", "enforced=\"allowed\""]].concat(), 3);
        expect(envoy, "inbound_requests", &[&cron[..], &["code=\"403\"", "enforced=\"denied\""]].concat(), 2);
        expect(envoy, "inbound_connections", &web, 1);
        expect(envoy, "inbound_latency_ms_count", &web, 3);
    }
}

#[test]
fn requests_are_counted_by_route() {
    for binary in counting() {
        let [http] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = mesh(&authority, binaries::traffic(&binary));
        meshes::workload(&mut mesh, "api", 10, &[(http, Protocol::Http)]);
        meshes::grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
        meshes::each_class(&mut mesh, |class| {
            class.traffic = binaries::traffic(&binary);
            class.routes = vec![meshes::measured()];
        });
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let inbound = Inbound::start(&binary, authority, &[http], &snapshot, echo_server(""));
        let call = |name: &str, line: &str| {
            let leaf = inbound.authority.issue(&spiffe(name));
            let head = format!("{line} HTTP/1.1\nHost: api\n");
            request(leaf.connect(at(http)).unwrap(), &head).unwrap().0
        };
        // The first match in order counts a request that meets two.
        for line in ["POST /books", "GET /books?x=/buy", "GET /books/1", "PUT /", "GET /other"] {
            assert_eq!(call("web", line), 200, "{line}");
        }
        assert_eq!(call("cron", "GET /books"), 403);

        let envoy = &inbound.envoy;
        let of = |name: &str| format!("route=\"{name}\"");
        for (route, count) in [("shop/api/buy", 1), ("shop/api/look", 2), ("shop/api/write", 1)] {
            expect(envoy, "inbound_requests", &[&of(route), "code=\"200\""], count);
            expect(envoy, "inbound_latency_ms_count", &[&of(route)], count);
        }
        expect(envoy, "inbound_requests", &[&of("shop/api/look"), "enforced=\"denied\""], 1);
        // What no match meets has no route.
        expect(envoy, "inbound_requests", &[&of(""), "code=\"200\""], 1);
    }
}

#[test]
fn a_call_that_finds_no_server_is_counted_with_its_service() {
    for binary in counting() {
        let [port, closed] = process::reserved_ports();
        let authority = Authority::generate();
        let mesh = mesh(&authority, binaries::traffic(&binary));
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let view = snapshot.view(&meshes::proxy("web")).unwrap();
        let listeners = view.resources.keys().filter(|(_, name)| name.starts_with("outbound/10."));
        let listener = listeners.map(|(_, name)| name.to_string()).next().unwrap();
        let outbound = Outbound::start(&binary, &authority, (&listener, port), &snapshot, at(closed));
        let head = "GET /books HTTP/1.1\nHost: api\n";
        let (status, _) = request(plain(outbound.address()).unwrap(), head).unwrap();
        assert_eq!(status, 503);
        // Three attempts at one request.
        let labels = [
            "attempt=\"3\"",
            "root=\"shop/api/80\"",
            "service=\"shop/api/80\"",
            "flags=\"UF\"",
            "peer_id=\"\"",
        ];
        expect(&outbound.envoy, "outbound_requests", &labels, 1);
    }
}

#[test]
fn an_attempt_that_another_follows_is_counted_as_such() {
    for binary in counting() {
        let [port, outer, closed] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = mesh(&authority, binaries::traffic(&binary));
        meshes::workload(&mut mesh, "api", 10, &[(port, Protocol::Http)]);
        meshes::service(&mut mesh, "api", 80, Protocol::Http, &[("api", port)]);
        meshes::each_class(&mut mesh, |class| class.traffic = binaries::traffic(&binary));
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let inbound = Inbound::start(&binary, authority, &[port], &snapshot, at(closed));
        let listener = ("outbound/10.96.0.10:80", outer);
        let outbound = Outbound::start(&binary, &inbound.authority, listener, &snapshot, at(port));
        let head = "GET /books HTTP/1.1\nHost: api\n";
        assert_eq!(request(plain(outbound.address()).unwrap(), head).unwrap().0, 503);
        let (repeated, last) = ("retried=\"1\"", "retried=\"\"");
        for (attempt, retried) in [("1", repeated), ("2", repeated), ("3", last)] {
            let labels = [&format!("attempt=\"{attempt}\""), "code=\"503\"", retried];
            expect(&outbound.envoy, "outbound_requests", &labels, 1);
        }
        expect(&inbound.envoy, "inbound_requests", &["code=\"503\"", "UF\"", repeated], 2);
        expect(&inbound.envoy, "inbound_requests", &["code=\"503\"", "UF\"", last], 1);
    }
}

/// Returns the binaries that can count.
fn counting() -> impl Iterator<Item = std::path::PathBuf> {
    let can = |envoy: &Path| !binaries::traffic(envoy).is_none();
    binaries::envoys().into_iter().filter(move |envoy| can(envoy))
}

fn mesh(authority: &Authority, traffic: TrafficStats) -> Mesh {
    let mut mesh = meshes::stats(traffic);
    trust::trust(&mut mesh, authority);
    mesh
}

/// Waits until a series with these labels has the value.
fn expect(envoy: &Envoy, name: &str, labels: &[&str], value: u64) {
    let page = || envoy.page("/stats/prometheus?filter=smidge").unwrap_or_default();
    let has = |line: &str| {
        line.starts_with(&format!("envoy_smidge_{name}{{"))
            && labels.iter().all(|label| line.contains(label))
            && line.ends_with(&format!("}} {value}"))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !page().lines().any(has) {
        assert!(
            Instant::now() < deadline,
            "no {name} of {labels:?} is {value}:\n{}\n{}",
            page(),
            envoy.log()
        );
        thread::yield_now();
    }
}
