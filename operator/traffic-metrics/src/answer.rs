//! Turns the flows of proxies into the traffic of the objects that a question is about.
//!
//! Pure. After `exchange`, which has combined the replicas' parts; the last step before `traffic`.
//!
//! | objects | edges |
//! | --- | --- |
//! | namespaces, nodes, pods and their controllers | `From`, measured at the server: calls that the proxies of their pods received, by the caller's workload |
//! | | `To`, measured at the client: calls that these proxies made, by the server's workload, or by the Service if no connection was made or the proxy refused the call |
//! | Services | `From`, measured at the client: calls of the Service, and those that its endpoints took for the root of a TrafficSplit, by the caller's workload |
//! | TrafficSplits | `From`, measured at the client: calls of the root, by backend and by the caller's workload. Calls that were refused before a backend was chosen are edges of the Service alone |

use std::time::Duration;

use crate::{
    directory::{Directory, Instance, Split},
    exchange::{Combined, combine, part},
    flow::Flow,
    store::Store,
    subject::{called, matches, object, splits},
    traffic::{Direction, Edge, Kind, ObjectName, Peer, Question, Side, Traffic},
};

/// Kind of the peer of calls that reached no workload.
const SERVICE: &str = "Service";

/// Returns the traffic of the objects of a question as the store of one replica alone knows it.
pub fn of_store(store: &Store, question: &Question, directory: &dyn Directory, now: Duration) -> Traffic {
    traffic(question, combine([part(store, question, directory, now)]), directory)
}

/// Returns the traffic of the objects of a question.
pub fn traffic(
    question: &Question,
    proxies: impl IntoIterator<Item = Combined>,
    directory: &dyn Directory,
) -> Traffic {
    let splits = splits(question, directory);
    let mut traffic = Traffic::new();
    for Combined { instance, flows, .. } in proxies {
        for (flow, figures) in flows {
            for (object, edge) in edges(question, &splits, &instance, &flow, directory) {
                traffic.entry(object).or_default().entry(edge).or_default().add(&figures);
            }
        }
    }
    traffic
}

/// Returns the edges that a flow is a part of, with their objects.
fn edges(
    question: &Question,
    splits: &[Split],
    instance: &Instance,
    flow: &Flow,
    directory: &dyn Directory,
) -> Vec<(ObjectName, Edge)> {
    let from_caller = |backend| Edge {
        direction: Direction::From,
        side: Side::Client,
        peer: workload(instance),
        backend,
        route: None,
    };
    match question.kind {
        Kind::Service => {
            let called = called(flow, directory).into_iter().filter(|service| matches(question, service));
            called.map(|service| (service, from_caller(None))).collect()
        }
        Kind::TrafficSplit => {
            let Flow::Outbound { service: Some(service), root: Some(root), .. } = flow else {
                return Vec::new();
            };
            let of_backend = |split: &&Split| split.root == *root && split.backends.contains(service);
            let edge = |split: &Split| (split.name.clone(), from_caller(Some(service.clone())));
            splits.iter().filter(of_backend).map(edge).collect()
        }
        kind => {
            let object = object(kind, instance).filter(|object| matches(question, object));
            object.map(|object| (object, own_edge(flow, directory))).into_iter().collect()
        }
    }
}

/// Returns the edge of the workload's own proxy.
fn own_edge(flow: &Flow, directory: &dyn Directory) -> Edge {
    let mut measured = None;
    let (direction, side, peer) = match flow {
        Flow::Inbound { peer, route } => {
            measured = Some(route.clone()).filter(|route| !route.is_empty());
            (Direction::From, Side::Server, peer.clone())
        }
        Flow::Outbound { service, root, peer } => {
            let called = service.as_ref().or(root.as_ref());
            (Direction::To, Side::Client, own_peer(peer.clone(), called))
        }
        Flow::Refused { address } => {
            let service = address.and_then(|address| directory.service_at(address));
            (Direction::To, Side::Client, service_peer(service.as_ref()))
        }
    };
    Edge { direction, side, peer, backend: None, route: measured }
}

fn workload(instance: &Instance) -> Peer {
    Peer {
        kind: instance.workload.kind.clone(),
        namespace: instance.namespace.clone(),
        name: instance.workload.name.clone(),
        service_account: instance.service_account.clone(),
    }
}

/// Returns the peer of calls that a workload made: the Service that was called, if no connection was.
pub(crate) fn own_peer(server: Peer, called: Option<&ObjectName>) -> Peer {
    if server == Peer::default() { service_peer(called) } else { server }
}

fn service_peer(service: Option<&ObjectName>) -> Peer {
    let of = |ObjectName { namespace, name }: &ObjectName| Peer {
        kind: SERVICE.to_owned(),
        namespace: namespace.clone(),
        name: name.clone(),
        service_account: String::new(),
    };
    service.map(of).unwrap_or_default()
}
