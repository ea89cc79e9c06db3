//! Turns the objects that have a status into what is needed to write it: which object, at which generation, with which
//! status, and which others it uses.
//!
//! Kept by `publish` beside the inputs, changed with them one by one. Does not judge: findings do.

use std::sync::Arc;

use imbl::OrdMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use smidge_crds::{access::TrafficTargetSpec, split::TrafficSplitSpec, status::Status};

use crate::{
    finding::ObjectRef,
    inputs::{Inputs, Key, Objects},
};

/// The kinds that have a status.
pub const KINDS: [&str; 7] = [
    "HTTPRouteGroup",
    "IdentityBinding",
    "MeshConfig",
    "TCPRoute",
    "TrafficSplit",
    "TrafficTarget",
    "UDPRoute",
];

/// An object that has a status.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Which object of that name; empty if it could not be read.
    pub uid: String,
    /// Its generation; `None` if it could not be read.
    pub generation: Option<i64>,
    /// What stands on it.
    pub status: Option<Status>,
    /// The objects that it refers to, whether they exist or not.
    pub uses: Vec<ObjectRef>,
}

/// All of them. A copy costs nothing, and two are compared at the cost of what they do not share.
pub type KnownObjects = OrdMap<ObjectRef, Arc<Known>>;

/// Takes over one object of `kind`, or all of them, as they are in `inputs`.
pub fn refresh(known: &mut KnownObjects, inputs: &Inputs, kind: &str, key: Option<&Key>) {
    if !KINDS.contains(&kind) {
        return;
    }
    let Some(key) = key else {
        let first = ObjectRef::new(kind, "", "");
        let all = known.range(first..).map(|(object, _)| object).take_while(|object| object.kind == kind);
        for object in all.cloned().collect::<Vec<_>>() {
            known.remove(&object);
        }
        for key in keys(inputs, kind) {
            refresh(known, inputs, kind, Some(&key));
        }
        return;
    };
    let object = ObjectRef::new(kind, &key.0, &key.1);
    match read(inputs, kind, key) {
        Some(read) => drop(known.insert(object, Arc::new(read))),
        None => drop(known.remove(&object)),
    }
}

fn keys(inputs: &Inputs, kind: &str) -> Vec<Key> {
    let readable: Vec<Key> = match kind {
        "HTTPRouteGroup" => inputs.http_route_groups.keys().cloned().collect(),
        "IdentityBinding" => inputs.identity_bindings.keys().cloned().collect(),
        "MeshConfig" => inputs.mesh_configs.keys().cloned().collect(),
        "TCPRoute" => inputs.tcp_routes.keys().cloned().collect(),
        "TrafficSplit" => inputs.traffic_splits.keys().cloned().collect(),
        "TrafficTarget" => inputs.traffic_targets.keys().cloned().collect(),
        "UDPRoute" => inputs.udp_routes.keys().cloned().collect(),
        _ => Vec::new(),
    };
    let unreadable = inputs.unreadable.keys().filter(|(of, _)| of == kind).map(|(_, key)| key.clone());
    readable.into_iter().chain(unreadable).collect()
}

fn read(inputs: &Inputs, kind: &str, key: &Key) -> Option<Known> {
    if inputs.unreadable.contains_key(&(kind.to_owned(), key.clone())) {
        return Some(Known::default());
    }
    match kind {
        "HTTPRouteGroup" => plain(&inputs.http_route_groups, key),
        "IdentityBinding" => plain(&inputs.identity_bindings, key),
        "MeshConfig" => plain(&inputs.mesh_configs, key),
        "TCPRoute" => plain(&inputs.tcp_routes, key),
        "UDPRoute" => plain(&inputs.udp_routes, key),
        "TrafficTarget" => {
            let target = inputs.traffic_targets.get(key)?;
            Some(Known { uses: used_by_target(key, &target.spec), ..known(&target.metadata, &target.status) })
        }
        "TrafficSplit" => {
            let split = inputs.traffic_splits.get(key)?;
            Some(Known { uses: used_by_split(key, &split.spec), ..known(&split.metadata, &split.status) })
        }
        _ => None,
    }
}

fn plain<Spec>(objects: &Objects<smidge_crds::object::Object<Spec>>, key: &Key) -> Option<Known> {
    objects.get(key).map(|object| known(&object.metadata, &object.status))
}

#[expect(clippy::ref_option, reason = "a field, as it stands")]
fn known(metadata: &ObjectMeta, status: &Option<Status>) -> Known {
    Known {
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation,
        status: status.clone(),
        ..Known::default()
    }
}

fn used_by_target((namespace, _): &Key, spec: &TrafficTargetSpec) -> Vec<ObjectRef> {
    let rules = spec.rules.iter().map(|rule| ObjectRef::new(&rule.kind, namespace, &rule.name));
    let subjects = spec.sources.iter().chain([&spec.destination]);
    let bindings = subjects.filter(|subject| subject.kind == "IdentityBinding").map(|subject| {
        let own = subject.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        ObjectRef::new(&subject.kind, own.unwrap_or(namespace), &subject.name)
    });
    rules.chain(bindings).collect()
}

fn used_by_split((namespace, _): &Key, spec: &TrafficSplitSpec) -> Vec<ObjectRef> {
    let groups = spec.matches.iter().flatten();
    groups.map(|group| ObjectRef::new(&group.kind, namespace, &group.name)).collect()
}
