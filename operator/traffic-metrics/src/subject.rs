//! Decides of which objects a call is traffic: those of the proxy's pod, the Services that were called, TrafficSplits.
//!
//! Pure. Used by `exchange`, to leave out what a question is not about, and by `answer`.

use std::collections::BTreeSet;

use crate::{
    directory::{Directory, Instance, Split},
    flow::Flow,
    traffic::{Kind, ObjectName, Question},
};

/// Returns the TrafficSplits that a question is about.
pub(crate) fn splits(question: &Question, directory: &dyn Directory) -> Vec<Split> {
    if question.kind == Kind::TrafficSplit {
        directory.splits(question.namespace.as_deref(), question.name.as_deref())
    } else {
        Vec::new()
    }
}

/// Returns the root Services of the TrafficSplits of a question.
pub(crate) fn roots(question: &Question, directory: &dyn Directory) -> BTreeSet<ObjectName> {
    splits(question, directory).into_iter().map(|split| split.root).collect()
}

/// Returns true if a flow of a proxy can be a part of the answer.
pub(crate) fn concerns(
    question: &Question,
    roots: &BTreeSet<ObjectName>,
    instance: &Instance,
    flow: &Flow,
    directory: &dyn Directory,
) -> bool {
    match question.kind {
        Kind::Service => called(flow, directory).iter().any(|service| matches(question, service)),
        Kind::TrafficSplit => matches!(flow, Flow::Outbound { root: Some(root), .. } if roots.contains(root)),
        kind => object(kind, instance).is_some_and(|object| matches(question, &object)),
    }
}

/// Returns the Services that a call is a call of: the one whose endpoints took it, and the one that was called.
pub(crate) fn called(flow: &Flow, directory: &dyn Directory) -> BTreeSet<ObjectName> {
    match flow {
        Flow::Inbound { .. } => BTreeSet::new(),
        Flow::Outbound { service, root, .. } => service.iter().chain(root).cloned().collect(),
        Flow::Refused { address } => {
            address.and_then(|address| directory.service_at(address)).into_iter().collect()
        }
    }
}

/// Returns the object of a kind that a proxy's pod is, or is a part of.
pub(crate) fn object(kind: Kind, instance: &Instance) -> Option<ObjectName> {
    let cluster_scoped = |name: &str| ObjectName { namespace: String::new(), name: name.to_owned() };
    let namespaced = |name: &str| ObjectName { namespace: instance.namespace.clone(), name: name.to_owned() };
    let owner = |kind: &str| {
        let owners = instance.controller.iter().chain([&instance.workload]);
        owners.filter(|owner| owner.kind == kind).map(|owner| namespaced(&owner.name)).next()
    };
    let object = match kind {
        Kind::Namespace => cluster_scoped(&instance.namespace),
        Kind::Node => cluster_scoped(&instance.node),
        Kind::Pod => namespaced(&instance.pod),
        Kind::ReplicationController => owner("ReplicationController")?,
        Kind::DaemonSet => owner("DaemonSet")?,
        Kind::Deployment => owner("Deployment")?,
        Kind::ReplicaSet => owner("ReplicaSet")?,
        Kind::StatefulSet => owner("StatefulSet")?,
        Kind::Job => owner("Job")?,
        Kind::Service | Kind::TrafficSplit => return None,
    };
    (!object.name.is_empty()).then_some(object)
}

/// Returns true if a question is about an object of its kind.
pub(crate) fn matches(question: &Question, object: &ObjectName) -> bool {
    let is_of = |asked: &Option<String>, name: &str| asked.as_ref().is_none_or(|asked| asked == name);
    let is_cluster_scoped = matches!(question.kind, Kind::Namespace | Kind::Node);
    is_of(&question.name, &object.name)
        && (is_cluster_scoped || is_of(&question.namespace, &object.namespace))
}
