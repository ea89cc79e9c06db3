//! Edges of each kind of object.

use std::time::Duration;

use smidge_traffic_metrics::{
    answer,
    series::{ADDRESS, CODE, ENFORCED, FLAGS, GRPC, Metric, PEER_ID, PEER_SUBJECT, ROOT, SERVICE},
    store::{Limits, Store},
    traffic::{BUCKETS, Direction, Edge, Figures, Kind, ObjectName, Peer, Side, Traffic},
};

use super::{
    directory::{Objects, ask, object, objects, proxy},
    otlp::{Sample, counter, histogram, push},
};

const FRONT: [(&str, &str); 2] =
    [(PEER_ID, "spiffe://cluster.local/ns/shop/sa/web"), (PEER_SUBJECT, "CN=front,OU=Deployment")];
const DB: [(&str, &str); 2] =
    [(PEER_ID, "spiffe://cluster.local/ns/shop/sa/data"), (PEER_SUBJECT, "OU=StatefulSet,CN=db")];

fn peer(kind: &str, name: &str, service_account: &str) -> Peer {
    Peer {
        kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        service_account: service_account.to_owned(),
    }
}

fn outbound(
    service: &'static str,
    root: &'static str,
    rest: &[(&'static str, &'static str)],
    count: u64,
) -> Sample {
    counter(Metric::OutboundRequests, &[&[(SERVICE, service), (ROOT, root)], rest].concat(), count)
}

/// `front` has called `db` by a split, `cache`, which did not answer, and an address that its proxy refused.
fn store(objects: &Objects) -> Store {
    let mut latency = [0; BUCKETS];
    latency[3] = 7;
    let of_front = [
        outbound("shop/db-v1/80", "shop/db/80", &[DB[0], DB[1], (CODE, "200"), (FLAGS, "-")], 5),
        outbound("shop/db-v2/80", "shop/db/80", &[DB[0], DB[1], (CODE, "200"), (GRPC, "14")], 2),
        histogram(
            Metric::OutboundLatency,
            &[(SERVICE, "shop/db-v1/80"), (ROOT, "shop/db/80"), DB[0], DB[1]],
            latency,
        ),
        outbound("shop/cache/80", "shop/cache/80", &[(CODE, "503"), (FLAGS, "UF")], 3),
        counter(Metric::OutboundRefused, &[(ADDRESS, "10.0.0.1:80")], 4),
        counter(Metric::OutboundRefused, &[(ADDRESS, "nowhere")], 1),
    ];
    let of_db = [
        counter(Metric::InboundRequests, &[FRONT[0], FRONT[1], (CODE, "200")], 7),
        counter(Metric::InboundRequests, &[FRONT[0], FRONT[1], (CODE, "403"), (ENFORCED, "denied")], 2),
        counter(Metric::InboundConnections, &[], 1),
        histogram(Metric::InboundLatency, &FRONT, latency),
    ];
    let mut store = Store::new(Limits::default());
    for (name, samples) in [("front-7d9-a", &of_front[..]), ("db-0", &of_db[..])] {
        let dropped = store.report(&proxy(name), &push(90, 100, samples), objects, Duration::from_secs(100));
        assert!(dropped.is_empty(), "{dropped:?}");
    }
    store
}

fn asked(kind: Kind, namespace: Option<&str>, name: Option<&str>) -> Traffic {
    let objects = objects();
    let question = ask(kind, namespace, name, 30);
    answer::of_store(&store(&objects), &question, &objects, Duration::from_secs(105))
}

fn figures(success: u64, failure: u64, refused: u64, latency: u64) -> Figures {
    let mut figures = Figures { success, failure, refused, ..Figures::default() };
    figures.latency[3] = latency;
    figures
}

fn edges(traffic: &Traffic, object: &ObjectName) -> Vec<(Edge, Figures)> {
    traffic.get(object).into_iter().flatten().map(|(edge, figures)| (edge.clone(), *figures)).collect()
}

fn edge(direction: Direction, side: Side, peer: Peer) -> Edge {
    Edge { direction, side, peer, backend: None, route: None }
}

#[test]
fn workloads_have_what_their_own_proxies_count() {
    let to = |peer| edge(Direction::To, Side::Client, peer);
    let from = |peer| edge(Direction::From, Side::Server, peer);
    let of_front = [
        (to(Peer::default()), figures(0, 0, 1, 0)),
        (to(peer("Service", "cache", "")), figures(0, 3, 0, 0)),
        (to(peer("Service", "db", "")), figures(0, 0, 4, 0)),
        (to(peer("StatefulSet", "db", "data")), figures(5, 2, 0, 7)),
    ];
    let of_db = [
        (from(Peer::default()), figures(1, 0, 0, 0)),
        (from(peer("Deployment", "front", "web")), figures(7, 0, 2, 7)),
    ];
    for (kind, front, db) in [
        (Kind::Pod, Some(object("shop", "front-7d9-a")), Some(object("shop", "db-0"))),
        (Kind::Node, Some(object("", "n1")), Some(object("", "n2"))),
        (Kind::Deployment, Some(object("shop", "front")), None),
        (Kind::ReplicaSet, Some(object("shop", "front-7d9")), None),
        (Kind::StatefulSet, None, Some(object("shop", "db"))),
    ] {
        let traffic = asked(kind, None, None);
        assert_eq!(traffic.len(), front.iter().chain(&db).count(), "{kind:?}");
        for (object, expected) in [(front, &of_front[..]), (db, &of_db[..])] {
            if let Some(object) = object {
                assert_eq!(edges(&traffic, &object), expected, "{kind:?}");
            }
        }
    }
    for kind in [Kind::Job, Kind::DaemonSet, Kind::ReplicationController] {
        assert!(asked(kind, None, None).is_empty(), "{kind:?}");
    }
    let mut all = of_front.to_vec();
    all.extend(of_db);
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(edges(&asked(Kind::Namespace, None, Some("shop")), &object("", "shop")), all);
}

#[test]
fn services_and_splits_have_what_callers_count() {
    let from = || edge(Direction::From, Side::Client, peer("Deployment", "front", "web"));
    let traffic = asked(Kind::Service, Some("shop"), None);
    for (name, expected) in [
        ("db", figures(5, 2, 4, 7)),
        ("db-v1", figures(5, 0, 0, 7)),
        ("db-v2", figures(0, 2, 0, 0)),
        ("cache", figures(0, 3, 0, 0)),
    ] {
        assert_eq!(edges(&traffic, &object("shop", name)), [(from(), expected)], "{name}");
    }
    assert_eq!(traffic.len(), 4);
    let traffic = asked(Kind::TrafficSplit, None, Some("canary"));
    let by = |backend| Edge { backend: Some(object("shop", backend)), ..from() };
    let expected = [(by("db-v1"), figures(5, 0, 0, 7)), (by("db-v2"), figures(0, 2, 0, 0))];
    assert_eq!(edges(&traffic, &object("shop", "canary")), expected);
}

#[test]
fn a_question_names_what_it_is_about() {
    let all = asked(Kind::Pod, None, None);
    assert_eq!(asked(Kind::Pod, Some("shop"), None), all);
    assert!(asked(Kind::Pod, Some("other"), None).is_empty());
    assert_eq!(
        asked(Kind::Pod, Some("shop"), Some("db-0")).into_keys().collect::<Vec<_>>(),
        [object("shop", "db-0")]
    );
    assert_eq!(asked(Kind::Service, None, Some("cache")).len(), 1);
    assert!(asked(Kind::TrafficSplit, Some("other"), None).is_empty());
    // An ended pod is remembered, one that was never known has the name of its proxy.
    let (objects, gone) = (objects(), Objects::default());
    let pods = |store: &Store, directory: &Objects| {
        let question = ask(Kind::Pod, None, None, 30);
        answer::of_store(store, &question, directory, Duration::from_secs(105)).len()
    };
    assert_eq!(pods(&store(&objects), &gone), 2);
    assert_eq!(pods(&store(&gone), &gone), 2);
}
