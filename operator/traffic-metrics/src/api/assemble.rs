//! Joins objects and their traffic to TrafficMetrics: one for each object, backend or edge.
//!
//! Pure. The server reads the objects and asks the source; `answer` writes the items. Objects without traffic have
//! figures of zero.

use std::collections::BTreeMap;

use super::{
    duration,
    object::{self, Backend, Metadata, Reference, TrafficMetrics},
    request,
    resource::{self, Resource},
    timestamp::Timestamp,
};
use crate::traffic::{Direction, Edge, Figures, ObjectName, Side, Traffic};

/// Maximum number of edges in an answer. Of more, those with most calls are kept.
pub const MAX_EDGES: usize = 1000;

/// An object, as the API server has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its namespace and name.
    pub name: ObjectName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Time at which it was created, RFC 3339.
    pub created: Option<String>,
    /// Content of a TrafficSplit; `None` for other kinds.
    pub split: Option<Split>,
}

/// Content of a TrafficSplit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Name of the root Service.
    pub apex: String,
    /// Name and weight of each backend.
    pub backends: Vec<(String, u64)>,
}

/// Content that all items of an answer have in common.
#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    request: &'a request::Figures,
    subject: &'a Subject,
    at: Timestamp,
}

/// Returns the items for the objects as wholes: one for each, or for each backend of a TrafficSplit.
pub fn wholes(
    request: &request::Figures,
    subjects: &[Subject],
    traffic: &Traffic,
    at: Timestamp,
) -> Vec<TrafficMetrics> {
    let none = BTreeMap::new();
    let mut items = Vec::new();
    for subject in subjects {
        let frame = Frame { request, subject, at };
        let edges = traffic.get(&subject.name).unwrap_or(&none);
        match &subject.split {
            None => items.push(frame.item(frame.whole(), None, &sum(request.resource, edges, |_| true))),
            Some(split) => items.extend(backends(split, edges).into_iter().map(|backend| {
                let is_its = |edge: &Edge| backend_name(edge) == Some(backend.name.as_str());
                let figures = sum(request.resource, edges, is_its);
                frame.item(frame.whole(), Some(backend), &figures)
            })),
        }
    }
    items
}

/// Returns the items for the edges of one object, and the number of those that are left out.
pub fn edges(
    request: &request::Figures,
    subject: &Subject,
    traffic: &Traffic,
    at: Timestamp,
) -> (Vec<TrafficMetrics>, usize) {
    let frame = Frame { request, subject, at };
    // Routes of one peer are one edge.
    let mut joined = BTreeMap::<Edge, Figures>::new();
    for (edge, figures) in traffic.get(&subject.name).into_iter().flatten() {
        joined.entry(Edge { route: None, ..edge.clone() }).or_default().add(figures);
    }
    let mut found: Vec<(&Edge, &Figures)> = joined.iter().collect();
    let left_out = found.len().saturating_sub(MAX_EDGES);
    if left_out > 0 {
        found.sort_by_key(|(_, figures)| std::cmp::Reverse(calls(figures)));
        found.truncate(MAX_EDGES);
        found.sort_by_key(|(edge, _)| *edge);
    }
    let item = |(edge, figures): (&Edge, &Figures)| {
        let shown = object::Edge {
            direction: resource::direction(edge.direction),
            side: resource::side(edge.side),
            resource: peer(edge),
        };
        let backend = subject.split.as_ref().zip(backend_name(edge)).map(|(split, name)| Backend {
            apex: split.apex.clone(),
            name: name.to_owned(),
            weight: weight(split, name),
        });
        frame.item(shown, backend, figures)
    };
    (found.into_iter().map(item).collect(), left_out)
}

/// Returns the items for the routes of one object: the calls that it received, by the match that they met, and last
/// those that met none.
pub fn routes(
    request: &request::Figures,
    subject: &Subject,
    traffic: &Traffic,
    at: Timestamp,
) -> Vec<TrafficMetrics> {
    let frame = Frame { request, subject, at };
    let none = BTreeMap::new();
    let edges = traffic.get(&subject.name).unwrap_or(&none);
    let mut names: Vec<Option<&str>> = edges.keys().map(|edge| edge.route.as_deref()).collect();
    // Without a name last, and first in the order of `Option`.
    names.sort_by_key(|name| (name.is_none(), *name));
    names.dedup();
    let mut items = Vec::new();
    for name in names {
        let figures = sum(request.resource, edges, |edge| edge.route.as_deref() == name);
        if figures != Figures::default() || name.is_some() {
            let route = name.map(object::Route::of);
            items.push(TrafficMetrics { route, ..frame.item(frame.whole(), None, &figures) });
        }
    }
    items
}

/// Returns the number of calls.
fn calls(figures: &Figures) -> u64 {
    figures.success.saturating_add(figures.failure).saturating_add(figures.refused)
}

/// Returns the backends of a split: those that it has, in its order, and those that calls went to in the window.
fn backends(split: &Split, edges: &BTreeMap<Edge, Figures>) -> Vec<Backend> {
    let backend = |name: &str, weight| Backend { apex: split.apex.clone(), name: name.to_owned(), weight };
    let mut all: Vec<Backend> = Vec::new();
    for (name, _) in &split.backends {
        // A Service that is listed twice is one backend.
        if all.iter().all(|known| known.name != *name) {
            all.push(backend(name, weight(split, name)));
        }
    }
    for name in edges.keys().filter_map(backend_name) {
        if all.iter().all(|known| known.name != name) {
            all.push(backend(name, 0));
        }
    }
    all
}

fn weight(split: &Split, name: &str) -> u64 {
    let own = split.backends.iter().filter(|(backend, _)| backend == name);
    own.fold(0, |sum, (_, weight)| sum.saturating_add(*weight))
}

fn backend_name(edge: &Edge) -> Option<&str> {
    edge.backend.as_ref().map(|backend| backend.name.as_str())
}

/// Adds the calls that an object received, as the one side has counted them: both sides count each call.
pub(super) fn sum(
    resource: &Resource,
    edges: &BTreeMap<Edge, Figures>,
    is_part: impl Fn(&Edge) -> bool,
) -> Figures {
    let mut all = Figures::default();
    let received =
        edges.iter().filter(|(edge, _)| edge.direction == Direction::From && edge.side == resource.side);
    received.filter(|(edge, _)| is_part(edge)).for_each(|(_, figures)| all.add(figures));
    all
}

/// Returns the reference to the other end of an edge: the account of a caller of which no more is known; `None` if
/// nothing is.
fn peer(edge: &Edge) -> Option<object::Reference> {
    let peer = &edge.peer;
    let account = peer.kind.is_empty() && peer.name.is_empty() && !peer.service_account.is_empty();
    let (kind, name) =
        if account { ("ServiceAccount", &peer.service_account) } else { (peer.kind.as_str(), &peer.name) };
    let reference =
        Reference { kind: kind.to_owned(), namespace: peer.namespace.clone(), name: name.clone() };
    (reference != Reference::default()).then_some(reference)
}

impl Frame<'_> {
    /// Returns the edge of a whole: everything that the object received.
    fn whole(&self) -> object::Edge {
        let side: Side = self.request.resource.side;
        object::Edge { direction: "from", side: resource::side(side), resource: None }
    }

    fn item(&self, edge: object::Edge, backend: Option<Backend>, figures: &Figures) -> TrafficMetrics {
        let Self { request, subject, at } = self;
        let ObjectName { namespace, name } = &subject.name;
        let own = request::Figures {
            namespace: Some(namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(name.clone()),
            ..(*request).clone()
        };
        TrafficMetrics {
            kind: "TrafficMetrics",
            api_version: request.version.api_version(),
            metadata: Metadata {
                name: name.clone(),
                namespace: namespace.clone(),
                self_link: own.path(),
                resource_version: at.resource_version(),
                creation_timestamp: subject.created.clone(),
                labels: subject.labels.clone(),
                annotations: BTreeMap::new(),
            },
            timestamp: at.rfc3339(),
            window: duration::format(request.parameters.window),
            resource: reference(request.resource, &subject.name),
            edge,
            backend,
            route: None,
            metrics: object::metrics(figures),
            figures: *figures,
        }
    }
}

/// Returns the reference to an object, or to all of a kind where names are empty.
pub fn reference(resource: &Resource, name: &ObjectName) -> Reference {
    Reference {
        kind: resource.kind_name.to_owned(),
        namespace: name.namespace.clone(),
        name: name.name.clone(),
    }
}
