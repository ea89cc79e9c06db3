//! Traces of real Envoys: the spans of a request through two sidecars, whose decision counts, and what a collector that is
//! absent costs.

use std::{path::Path, sync::Arc};

use smidge_xds::{
    mesh::{
        Mesh,
        access::{Payload, Ports},
        service::Protocol,
        settings::Tracing,
    },
    snapshot::Snapshot,
};
use smidge_xds_testing::{
    binaries,
    caller::{Authority, plain, request},
    collector::{Collector, Span},
    inbound::{Inbound, at, mirror_server, within},
    meshes,
    outbound::Outbound,
    process, trust,
};

/// A trace that others have begun: sampled, and not.
const SAMPLED: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_SAMPLED: &str = "traceparent: 00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
/// Kinds of spans.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// The sidecars of `web`, which calls, and of `api`.
struct Pair {
    outbound: Outbound,
    inbound: Inbound,
}

impl Pair {
    fn start(binary: &Path, collector: u16, percent: &str) -> Self {
        let [port, outer] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = trust::pair(&authority, &[(port, Protocol::Http)]);
        meshes::grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
        let share = percent.parse().unwrap();
        mesh.settings.tracing = Some(Tracing { host: "127.0.0.1".to_owned(), port: collector, share });
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let inbound = Inbound::start(binary, authority, &[port], &snapshot, mirror_server());
        let listener = ("outbound/10.96.0.10:80", outer);
        let outbound = Outbound::start(binary, &inbound.authority, listener, &snapshot, at(port));
        Self { outbound, inbound }
    }

    /// Sends a request with a header, and returns the head that the workload received.
    fn call(&self, header: &str) -> String {
        let head = format!("GET /books?q=1 HTTP/1.1\nHost: api\n{header}");
        let (status, answer) = request(plain(self.outbound.address()).unwrap(), &head).unwrap();
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

#[test]
fn a_request_through_two_sidecars_is_one_trace() {
    for binary in binaries::envoys() {
        let collector = Collector::start();
        let pair = Pair::start(&binary, collector.address.port(), "100");
        let seen = pair.call("");
        within("two spans", || collector.spans().len() == 2);
        let spans = collector.spans();
        let of = |kind: i32| spans.iter().find(|span| span.kind == kind).unwrap();
        let (client, server) = (of(CLIENT), of(SERVER));
        assert_eq!((client.parent.as_str(), &client.trace), ("", &server.trace), "{spans:?}");
        assert_eq!(server.parent, client.id, "{spans:?}");
        // What the workload passes on continues at its own span's parent.
        let expected = format!("traceparent: 00-{}-{}-01", server.trace, server.id);
        assert!(seen.contains(&expected), "{expected} is not in {seen}");
        for span in &spans {
            assert_eq!(span.service, "test", "from the environment: {span:?}");
            let has = |key: &str, value: &str| {
                span.attributes.iter().any(|(name, text)| name == key && text.contains(value))
            };
            assert!(has("http.status_code", "200") && has("http.url", "/books"), "{span:?}");
        }
    }
}

#[test]
fn a_trace_that_others_began_is_continued_as_they_decided() {
    for binary in binaries::envoys() {
        let collector = Collector::start();
        let pair = Pair::start(&binary, collector.address.port(), "0");
        pair.call("");
        let seen = pair.call(NOT_SAMPLED);
        assert!(seen.contains("traceparent: 00-1af7651916cd43dd8448eb211c80319c-"), "{seen}");
        let seen = pair.call(SAMPLED);
        assert!(seen.contains("traceparent: 00-0af7651916cd43dd8448eb211c80319c-"), "{seen}");
        within("two spans", || collector.spans().len() >= 2);
        let spans = collector.spans();
        let trace = |span: &Span| span.trace == "0af7651916cd43dd8448eb211c80319c";
        assert!(spans.len() == 2 && spans.iter().all(trace), "{spans:?}");
        assert!(spans.iter().any(|span| span.parent == "b7ad6b7169203331"), "{spans:?}");
    }
}

#[test]
fn a_collector_that_is_absent_costs_no_request_and_no_memory_without_end() {
    for binary in binaries::envoys() {
        let [closed] = process::reserved_ports();
        let pair = Pair::start(&binary, closed, "100");
        (0..200).for_each(|_| drop(pair.call("")));
        assert_eq!(pair.inbound.envoy.stat("http.inbound/80/http.downstream_rq_5xx").unwrap_or_default(), 0);
    }
}

/// Returns a mesh without tracing, whose configuration has no part of it.
#[test]
fn without_a_collector_nothing_is_traced() {
    let mesh: Mesh = meshes::http();
    assert_eq!(mesh.settings.tracing, None);
    let snapshot = Snapshot::next(Arc::new(mesh), None);
    let view = snapshot.view(&meshes::proxy("web")).unwrap();
    for resource in view.resources.values() {
        let text = smidge_xds::render::resource(resource).unwrap().to_string();
        assert!(!text.contains("opentelemetry") && &*resource.name != "tracing", "{text}");
    }
}
