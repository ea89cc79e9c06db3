//! `xds::delta`: one stream's side of the protocol, to the bytes: all resources of a new proxy, and one change.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion};
use smidge_xds::{
    delta::{Request, Session, changes},
    resources::ResourceType,
    snapshot::Snapshot,
    view::View,
};

use crate::scenario::{Change, Scenario};

pub fn bench(criterion: &mut Criterion, scenario: &Scenario) {
    let mut group = criterion.benchmark_group("delta");
    let [before, after] = scenario.meshes(Change::Endpoint);
    let proxy = before.workloads.keys().next().unwrap().clone();
    let before = Snapshot::next(before, None);
    let after = Snapshot::next(after, Some(&before));
    let views = [before.view(&proxy).unwrap(), after.view(&proxy).unwrap()];
    let questions: Vec<Request> = ORDER.iter().map(|kind| question(*kind, &views[0])).collect();
    let mut buffer = Vec::new();
    group.bench_function(BenchmarkId::new("new proxy", &scenario.size), |bencher| {
        bencher.iter(|| {
            let mut session = Session::new();
            session.on_view(Arc::clone(&views[0]));
            for question in black_box(&questions) {
                drop(session.on_request(question));
                send(&mut session, &mut buffer);
            }
            session
        });
    });
    let mut session = Session::new();
    session.on_view(Arc::clone(&views[0]));
    for question in &questions {
        drop(session.on_request(question));
        send(&mut session, &mut buffer);
    }
    let changes = [changes::between(&views[1], &views[0]), changes::between(&views[0], &views[1])];
    let mut turn = 0;
    group.bench_function(BenchmarkId::new("endpoint", &scenario.size), |bencher| {
        bencher.iter(|| {
            turn += 1;
            session.on_changes(Arc::clone(&views[turn % 2]), black_box(&changes[turn % 2]));
            let sent = send(&mut session, &mut buffer);
            assert_eq!(sent, 1, "an endpoint is one assignment");
        });
    });
}

/// The order in which an Envoy requests types.
const ORDER: [ResourceType; 6] = [
    ResourceType::Cluster,
    ResourceType::Endpoints,
    ResourceType::Secret,
    ResourceType::Listener,
    ResourceType::Route,
    ResourceType::Extension,
];

/// First request of a proxy that needs every resource of a type. Its own certificate is another hop.
fn question(kind: ResourceType, view: &View) -> Request {
    let names = view.resources.keys().filter(|(of, _)| *of == kind && !kind.is_wildcard());
    let subscribe = names.map(|(_, name)| name.to_string()).collect();
    Request { type_url: kind.type_url().to_owned(), subscribe, ..Request::default() }
}

/// Encodes and acknowledges every pending response; returns the number of resources.
fn send(session: &mut Session, buffer: &mut Vec<u8>) -> usize {
    let mut sent = 0;
    while let Some(response) = session.next_response() {
        buffer.clear();
        response.encode(buffer);
        sent += response.updated.len();
        let answer = Request {
            type_url: response.kind.type_url().to_owned(),
            response_nonce: response.nonce.to_string(),
            ..Request::default()
        };
        drop(session.on_request(black_box(&answer)));
    }
    sent
}
