//! The kinds of objects that a mesh is made of: one row a kind, and whatever does the same for each of them goes by it.
//!
//! Row → watches (`runtime::watches`), objects from files (`documents`), admission, status, Events (`report`) and what
//! lowering recomputes (`cluster`). A row says where the objects of a kind are, what reads them, and what they refer
//! to; `smidge_crds::KINDS` has what the wire format needs: groups, versions, definitions. Does not say what an object means.

use std::fmt::Debug;

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube_core::Resource;
use serde::de::DeserializeOwned;
use smidge_crds::{
    access::TrafficTargetSpec,
    object::{Kind, Object},
    split::TrafficSplitSpec,
};
use smidge_mesh::id::ServiceId;

use crate::{
    finding::ObjectRef,
    inputs::{Inputs, Key, Objects},
    node::Node,
};

/// What a change of an object can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Only what nobody lowers: the object's status, its resource version.
    StatusOnly,
    /// Anything else.
    Semantic,
}

/// An object that is read from a cluster.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + PartialEq + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Compares two states of an object, as far as that is cheap; default: [`Change::Semantic`].
    fn compare(&self, _before: &Self) -> Change {
        Change::Semantic
    }
}

impl Watched for Pod {
    /// Kubelets report on every pod again and again; what is kept of it (`runtime::watches`) seldom changes.
    fn compare(&self, before: &Self) -> Change {
        let of = |pod: &Self| ObjectMeta { resource_version: None, ..pod.metadata.clone() };
        let is_same = self.spec == before.spec && self.status == before.status && of(self) == of(before);
        if is_same { Change::StatusOnly } else { Change::Semantic }
    }
}
impl Watched for Service {}
impl Watched for EndpointSlice {}
impl Watched for Namespace {}

impl<Spec: Kind> Watched for Object<Spec> {
    fn compare(&self, before: &Self) -> Change {
        let of = |object: &Self| {
            let ObjectMeta { uid, generation, labels, annotations, creation_timestamp, .. } =
                object.metadata.clone();
            (uid, generation, labels, annotations, creation_timestamp)
        };
        let is_same = self.spec == before.spec && of(self) == of(before);
        if is_same { Change::StatusOnly } else { Change::Semantic }
    }
}

/// A kind.
#[derive(Debug)]
pub struct Row<K: 'static> {
    /// Its name, as in `TrafficSplit`.
    pub name: &'static str,
    /// Where its objects are.
    pub objects: fn(&Inputs) -> &Objects<K>,
    /// The same, to be changed.
    pub objects_mut: fn(&mut Inputs) -> &mut Objects<K>,
    /// The nodes of lowering that read the object of a name.
    pub(crate) nodes: fn(Key) -> Vec<Node>,
}

/// The objects that an object refers to, whether they exist or not: a change of theirs changes its status.
pub type References<Spec> = fn(&Key, &Spec) -> Vec<ObjectRef>;

/// What is done with every kind.
pub trait Visitor {
    /// Visits a kind.
    fn kind<K: Watched>(&mut self, row: &Row<K>);

    /// Visits a kind of ours, all of which have a status; default: as any other.
    fn custom<Spec: Kind>(&mut self, row: &Row<Object<Spec>>, _references: References<Spec>) {
        self.kind(row);
    }
}

macro_rules! row {
    ($name:literal, $field:ident, $nodes:expr) => {
        Row {
            name: $name,
            objects: |inputs| &inputs.$field,
            objects_mut: |inputs| &mut inputs.$field,
            nodes: $nodes,
        }
    };
}

/// Pods, of which each reader makes something of its own.
pub fn pods() -> Row<Pod> {
    row!("Pod", pods, |key| vec![Node::Pod(key)])
}

/// Visits every kind, in the order of this list.
pub fn visit(visitor: &mut impl Visitor) {
    visitor.kind(&pods());
    visitor.kind::<Service>(&row!("Service", services, |(namespace, name)| vec![Node::KubeService(
        ServiceId { namespace, name }
    )]));
    visitor.kind::<EndpointSlice>(&row!("EndpointSlice", slices, |key| vec![Node::Slice(key)]));
    visitor.kind::<Namespace>(&row!("Namespace", namespaces, |(_, name)| {
        vec![Node::Modes(name.clone()), Node::InjectsNamespace(name)]
    }));
    let target = row!("TrafficTarget", traffic_targets, |key| vec![Node::Target(key)]);
    visitor.custom(&target, references_of_target);
    let binding = row!("IdentityBinding", identity_bindings, |key| vec![Node::Binding(key)]);
    visitor.custom(&binding, none);
    let group = row!("HTTPRouteGroup", http_route_groups, |key| vec![Node::Group(key)]);
    visitor.custom(&group, none);
    visitor.custom(&row!("TCPRoute", tcp_routes, |key| vec![Node::TcpRoute(key)]), none);
    visitor.custom(&row!("UDPRoute", udp_routes, |key| vec![Node::UdpRoute(key)]), none);
    let split = row!("TrafficSplit", traffic_splits, |key| vec![Node::SplitSpec(key)]);
    visitor.custom(&split, references_of_split);
    // Whatever is called otherwise than `default` is judged with the one that is.
    visitor.custom(&row!("MeshConfig", mesh_configs, |_| vec![Node::MeshWide]), none);
}

fn none<Spec>(_: &Key, _: &Spec) -> Vec<ObjectRef> {
    Vec::new()
}

fn references_of_target((namespace, _): &Key, spec: &TrafficTargetSpec) -> Vec<ObjectRef> {
    let rules = spec.rules.iter().map(|rule| ObjectRef::new(&rule.kind, namespace, &rule.name));
    let subjects = spec.sources.iter().chain([&spec.destination]);
    let bindings = subjects.filter(|subject| subject.kind == "IdentityBinding").map(|subject| {
        let own = subject.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        ObjectRef::new(&subject.kind, own.unwrap_or(namespace), &subject.name)
    });
    rules.chain(bindings).collect()
}

fn references_of_split((namespace, _): &Key, spec: &TrafficSplitSpec) -> Vec<ObjectRef> {
    let groups = spec.matches.iter().flatten();
    groups.map(|group| ObjectRef::new(&group.kind, namespace, &group.name)).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, ptr};

    use super::*;

    #[derive(Default)]
    struct Listed {
        inputs: Inputs,
        lists: Vec<*const ()>,
        custom: Vec<&'static str>,
    }

    impl Visitor for Listed {
        fn kind<K: Watched>(&mut self, row: &Row<K>) {
            assert_eq!(row.name, K::kind(&()));
            let list = ptr::from_ref((row.objects)(&self.inputs));
            assert!(ptr::eq(list, (row.objects_mut)(&mut self.inputs)), "{} has two lists", row.name);
            self.lists.push(list.cast());
        }

        fn custom<Spec: Kind>(&mut self, row: &Row<Object<Spec>>, _: References<Spec>) {
            self.custom.push(row.name);
            self.kind(row);
        }
    }

    #[test]
    fn every_list_of_objects_has_one_row() {
        let mut listed = Listed::default();
        visit(&mut listed);
        let lists: BTreeSet<_> = listed.lists.iter().collect();
        let fields = include_str!("inputs.rs").matches(": Objects<").count();
        assert_eq!((lists.len(), listed.lists.len()), (fields, fields), "fields of Inputs");
    }

    #[test]
    fn the_kinds_of_the_definitions_are_those_of_the_rows() {
        let mut listed = Listed::default();
        visit(&mut listed);
        let defined: Vec<_> = smidge_crds::KINDS.iter().map(|kind| kind.kind).collect();
        assert_eq!(listed.custom, defined);
    }
}
