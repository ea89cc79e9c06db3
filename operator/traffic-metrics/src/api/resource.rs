//! Table of the resources of the API: names in paths, kinds in references, and the objects that they are about.
//!
//! Pure. Read by every other module of `api`, and by the server for the objects that it lists. A kind that is added to
//! `traffic::Kind` gets a row here.

use crate::traffic::{Direction, Kind, Side};

/// A resource of the API.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// The kind of the objects that have the traffic.
    pub kind: Kind,
    /// Its name in paths.
    pub plural: &'static str,
    /// Its name for one object.
    pub singular: &'static str,
    /// The kind's name in references.
    pub kind_name: &'static str,
    /// API group of the objects; empty: the core group.
    pub group: &'static str,
    /// Version of that group by which the objects are read.
    pub version: &'static str,
    /// True if the objects have a namespace.
    pub namespaced: bool,
    /// Side whose figures count for an object as a whole.
    pub side: Side,
}

impl Resource {
    /// Returns the kind that discovery shows for the resource: one of its own, by which kubectl finds it.
    pub fn discovered_kind(&self) -> String {
        format!("{}TrafficMetrics", self.kind_name)
    }

    /// Returns true if the traffic is reported by backend, as that of a TrafficSplit is.
    pub fn has_backends(&self) -> bool {
        self.kind == Kind::TrafficSplit
    }

    /// Returns true if the traffic is reported by route, which the servers' proxies measure.
    pub fn has_routes(&self) -> bool {
        self.side == Side::Server
    }
}

const fn row(
    kind: Kind,
    (plural, singular, kind_name): (&'static str, &'static str, &'static str),
    (group, version): (&'static str, &'static str),
    side: Side,
) -> Resource {
    let namespaced = !matches!(kind, Kind::Namespace | Kind::Node);
    Resource { kind, plural, singular, kind_name, group, version, namespaced, side }
}

/// The core group.
const CORE: (&str, &str) = ("", "v1");
/// The group of the kinds that manage pods.
const APPS: (&str, &str) = ("apps", "v1");

/// The resources, by name.
pub const RESOURCES: [Resource; 11] = [
    row(Kind::DaemonSet, ("daemonsets", "daemonset", "DaemonSet"), APPS, Side::Server),
    row(Kind::Deployment, ("deployments", "deployment", "Deployment"), APPS, Side::Server),
    row(Kind::Job, ("jobs", "job", "Job"), ("batch", "v1"), Side::Server),
    row(Kind::Namespace, ("namespaces", "namespace", "Namespace"), CORE, Side::Server),
    row(Kind::Node, ("nodes", "node", "Node"), CORE, Side::Server),
    row(Kind::Pod, ("pods", "pod", "Pod"), CORE, Side::Server),
    row(Kind::ReplicaSet, ("replicasets", "replicaset", "ReplicaSet"), APPS, Side::Server),
    row(
        Kind::ReplicationController,
        ("replicationcontrollers", "replicationcontroller", "ReplicationController"),
        CORE,
        Side::Server,
    ),
    row(Kind::Service, ("services", "service", "Service"), CORE, Side::Client),
    row(Kind::StatefulSet, ("statefulsets", "statefulset", "StatefulSet"), APPS, Side::Server),
    row(
        Kind::TrafficSplit,
        ("trafficsplits", "trafficsplit", "TrafficSplit"),
        ("split.smi-spec.io", "v1alpha4"),
        Side::Client,
    ),
];

/// The resource whose objects can be written (`stored`). It has no row: its objects measure others.
pub const STORED: &str = "trafficmetrics";

/// Returns the resource of this name.
pub fn find(plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.plural == plural)
}

/// Returns the word of a direction in an edge.
pub fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::To => "to",
        Direction::From => "from",
    }
}

/// Returns the word of a side in an edge.
pub fn side(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}
