//! Rows of the table of kinds (`table`), used by all code that treats every kind alike.
//!
//! Used for watches (`runtime::watches`), objects from files (`documents`), admission, status, Events (`report`) and to
//! find what lowering recomputes (`cluster`). Lists the place of the objects of a kind, the nodes that read them, and
//! the objects that they refer to; `smidge_crds::KINDS` has what the wire format needs: groups, versions, definitions.
//! Does not define what an object means.

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
    config::MeshConfigSpec,
    object::{Kind, Object},
    split::TrafficSplitSpec,
};
use smidge_mesh::id::ServiceId;

use crate::{
    finding::ObjectRef,
    inputs::{Inputs, Key, Objects},
    node::Node,
    smi,
    table::table_of_kinds,
};

/// Effect that a change of an object can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Only parts that lowering does not read: the status of the object, its resource version.
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
    /// Kubelets update the status of every pod often; the part that is kept (`runtime::watches`) seldom changes.
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

/// Row of a kind.
#[derive(Debug)]
pub struct Row<K: 'static> {
    /// Name of the kind, for example `TrafficSplit`.
    pub name: &'static str,
    /// Returns the list of its objects.
    pub objects: fn(&Inputs) -> &Objects<K>,
    /// Returns the list of its objects, to be changed.
    pub objects_mut: fn(&mut Inputs) -> &mut Objects<K>,
    /// Returns the nodes of lowering that read the object of a name.
    pub(crate) nodes: fn(Key) -> Vec<Node>,
}

/// Returns the objects that an object refers to, whether they exist or not: a change of one changes the status of the
/// object.
pub type References<Spec> = fn(&Key, &Spec) -> Vec<ObjectRef>;

/// Operation on every kind.
pub trait Visitor {
    /// Visits a kind.
    fn kind<K: Watched>(&mut self, row: &Row<K>);

    /// Visits a kind of SMI or Smidge, all of which have a status; default: like any other kind.
    fn custom<Spec: Kind>(&mut self, row: &Row<Object<Spec>>, _references: References<Spec>) {
        self.kind(row);
    }
}

/// Defines the rows of all kinds, and the visit of each.
macro_rules! rows {
    (
        kubernetes { $($(#[$doc:meta])* $list:ident: $kind:ty, $nodes:expr;)* }
        custom {
            $(
                $(#[$custom_doc:meta])*
                $custom_list:ident: $spec:ty, $custom_nodes:expr, $references:path $(, ($compute:path))?;
            )*
        }
    ) => {
        /// Visits every kind, in the order of the table.
        pub fn visit(visitor: &mut impl Visitor) {
            $(visitor.kind(&Row::<$kind> {
                name: <$kind as k8s_openapi::Resource>::KIND,
                objects: |inputs| &inputs.$list,
                objects_mut: |inputs| &mut inputs.$list,
                nodes: $nodes,
            });)*
            $(visitor.custom(
                &Row::<Object<$spec>> {
                    name: <$spec>::KIND,
                    objects: |inputs| &inputs.$custom_list,
                    objects_mut: |inputs| &mut inputs.$custom_list,
                    nodes: $custom_nodes,
                },
                $references,
            );)*
        }
    };
}

table_of_kinds!(rows);

/// Returns the node of an object that is read without other objects.
fn object<Spec: Kind>(key: Key) -> Vec<Node> {
    vec![Node::Object(Spec::KIND, key)]
}

/// Kinds whose objects route the calls of a Service, highest rank first (`route_source`).
pub(crate) const ROUTE_SOURCES: [&str; 1] = [TrafficSplitSpec::KIND];

/// Returns true if objects of the kind are about the whole mesh, and so about every proxy.
pub fn is_mesh_wide(kind: &str) -> bool {
    kind == MeshConfigSpec::KIND
}

fn none<Spec>(_: &Key, _: &Spec) -> Vec<ObjectRef> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Custom(Vec<&'static str>);

    impl Visitor for Custom {
        fn kind<K: Watched>(&mut self, _: &Row<K>) {}

        fn custom<Spec: Kind>(&mut self, row: &Row<Object<Spec>>, _: References<Spec>) {
            self.0.push(row.name);
        }
    }

    #[test]
    fn the_kinds_of_the_definitions_are_those_of_the_rows() {
        let mut custom = Custom::default();
        visit(&mut custom);
        let defined: Vec<_> = smidge_crds::KINDS.iter().map(|kind| kind.kind).collect();
        assert_eq!(custom.0, defined);
    }
}
