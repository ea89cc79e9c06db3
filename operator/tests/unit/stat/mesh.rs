//! A small mesh with traffic of every sort: served, failed, refused, without an identity, split, none.

use smidge_traffic_metrics::{
    api::assemble::{Split, Subject},
    traffic::{BUCKETS, Direction, Edge, Figures, Kind, ObjectName, Peer, Side, Traffic},
};

fn name(path: &str) -> ObjectName {
    let (namespace, name) = path.split_once('/').unwrap_or(("", path));
    ObjectName { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn peer(kind: &str, path: &str) -> Peer {
    let ObjectName { namespace, name } = name(path);
    Peer { kind: kind.to_owned(), namespace, name, ..Peer::default() }
}

fn account(path: &str) -> Peer {
    let ObjectName { namespace, name } = name(path);
    Peer { namespace, service_account: name, ..Peer::default() }
}

fn deployment(path: &str) -> Peer {
    peer("Deployment", path)
}

const fn counts(success: u64, failure: u64, refused: u64) -> Figures {
    let mut latency = [0; BUCKETS];
    // Most answers took 10 to 25 ms, failures 100 to 250 ms.
    latency[4] = success;
    latency[7] = failure;
    Figures { success, failure, refused, latency }
}

/// Objects of a kind, in the order in which the API server has them.
pub fn subjects(kind: Kind) -> Vec<Subject> {
    let names: &[&str] = match kind {
        Kind::Deployment => &["front/gateway", "shop/blocked", "shop/db", "shop/web", "shop/worker"],
        Kind::Namespace => &["front", "shop"],
        Kind::Service => &["shop/web"],
        Kind::TrafficSplit => &["shop/idle", "shop/web"],
        _ => &[],
    };
    let split = |apex: &str| match (kind, apex) {
        (Kind::TrafficSplit, "web") => [("web-v1", 9), ("web-v2", 1)].as_slice(),
        (Kind::TrafficSplit, _) => [("idle-v1", 0)].as_slice(),
        _ => &[],
    };
    let subject = |path: &&str| {
        let name = name(path);
        let backends: Vec<_> =
            split(&name.name).iter().map(|(backend, weight)| ((*backend).to_owned(), *weight)).collect();
        let split = Some(Split { apex: name.name.clone(), backends }).filter(|it| !it.backends.is_empty());
        Subject { name, split, ..Subject::default() }
    };
    names.iter().map(subject).collect()
}

/// Edges by direction: `F`rom a peer as the server has counted, `f`rom it as the client has, `T`o it as the client has.
fn edges(direction: char) -> impl Fn(Peer, Figures) -> (Edge, Figures) {
    let (direction, side) = match direction {
        'F' => (Direction::From, Side::Server),
        'f' => (Direction::From, Side::Client),
        _ => (Direction::To, Side::Client),
    };
    move |peer, figures| (Edge { direction, side, peer, backend: None, route: None }, figures)
}

/// Returns an edge of a route.
fn on(route: &str, (edge, figures): (Edge, Figures)) -> (Edge, Figures) {
    (Edge { route: Some(route.to_owned()), ..edge }, figures)
}

/// Traffic of the objects of a kind.
pub fn traffic(kind: Kind) -> Traffic {
    let (from, called_by, to) = (edges('F'), edges('f'), edges('T'));
    let of_backend = |service: &str, figures| {
        let (edge, figures) = called_by(deployment("front/gateway"), figures);
        (Edge { backend: Some(name(service)), ..edge }, figures)
    };
    let all: Vec<(&str, Vec<(Edge, Figures)>)> = match kind {
        Kind::Deployment => vec![
            (
                "front/gateway",
                vec![
                    // The server has counted these calls as well, and the last ones later.
                    to(deployment("shop/web"), counts(981, 21, 0)),
                    to(peer("Service", "shop/payments"), counts(0, 4, 0)),
                    to(Peer::default(), counts(0, 0, 2)),
                ],
            ),
            ("shop/blocked", vec![from(deployment("front/gateway"), counts(0, 0, 30))]),
            ("shop/db", vec![from(deployment("shop/web"), counts(500, 0, 0))]),
            (
                "shop/web",
                vec![
                    on("shop/books/look", from(deployment("front/gateway"), counts(900, 0, 0))),
                    on("shop/books/buy", from(deployment("front/gateway"), counts(80, 20, 0))),
                    on("shop/books/buy", from(account("batch/cron"), counts(0, 0, 3))),
                    from(Peer::default(), counts(20, 0, 12)),
                    to(deployment("shop/db"), counts(500, 0, 0)),
                ],
            ),
        ],
        Kind::Namespace => vec![
            ("front", vec![to(deployment("shop/web"), counts(981, 21, 0))]),
            (
                "shop",
                vec![
                    from(deployment("shop/web"), counts(500, 0, 0)),
                    to(deployment("shop/db"), counts(500, 0, 0)),
                ],
            ),
        ],
        Kind::Service => vec![("shop/web", vec![called_by(deployment("front/gateway"), counts(981, 21, 0))])],
        Kind::TrafficSplit => vec![(
            "shop/web",
            vec![
                of_backend("shop/web-v1", counts(880, 0, 0)),
                of_backend("shop/web-v2", counts(90, 20, 0)),
                of_backend("shop/web-v0", counts(10, 0, 0)),
            ],
        )],
        _ => Vec::new(),
    };
    all.into_iter().map(|(path, edges)| (name(path), edges.into_iter().collect())).collect()
}
