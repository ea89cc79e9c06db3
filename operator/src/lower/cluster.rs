//! Keeps the mesh of one cluster: marks what differs between two states of its objects, lets it be made again, and puts
//! what came of it into the mesh.
//!
//! Driven by `Lowering`, for each cluster by itself. Does not say how anything is made.

use std::{collections::BTreeMap, sync::Arc};

use smidge_xds::mesh::{
    Map, Mesh,
    id::{ClusterId, ProxyId},
    trust::{Bundle, Trust},
};

use super::{
    Bindings, Lowered,
    found::Found,
    graph::Graph,
    unit::{Unit, variant},
};
use crate::{
    inputs::{Inputs, Key, differing},
    kinds::{self, Row, Visitor, Watched},
};

/// One cluster as it was lowered last.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    inputs: Inputs,
    graph: Graph,
    mesh: Mesh,
}

impl Cluster {
    /// Goes on to `inputs`.
    pub fn step(&mut self, id: &ClusterId, inputs: &Inputs) {
        self.touch(inputs);
        self.graph.settle(id, inputs);
        for unit in self.graph.take_changed() {
            self.publish(&unit, id);
        }
        let is_same_trust =
            self.inputs.roots == inputs.roots && self.inputs.trust_domain == inputs.trust_domain;
        if !is_same_trust || self.mesh.trust.bundles.is_empty() {
            let bundle = Bundle { roots: inputs.roots.clone() };
            let domain = inputs.trust_domain.clone();
            let bundles = BTreeMap::from([(domain.clone(), bundle)]);
            self.mesh.trust = Arc::new(Trust { domain, bundles });
        }
        self.inputs = inputs.clone();
    }

    /// The mesh that came of it.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// What is wrong with the objects.
    pub fn found(&mut self) -> &mut Found {
        self.graph.found()
    }

    /// How much was made since this was asked last, and how much there is.
    pub fn take_lowered(&mut self) -> Lowered {
        self.graph.take_lowered()
    }

    /// The identities that each IdentityBinding stands for.
    pub fn bindings(&self) -> Bindings {
        let value = |key: &Key| {
            let identities = variant!(self.graph.value(&Unit::Binding(key.clone()))?, Identities)?;
            Some((key.clone(), Arc::clone(identities)))
        };
        self.inputs.identity_bindings.keys().filter_map(value).collect()
    }

    /// Marks what is made of objects that differ.
    fn touch(&mut self, new: &Inputs) {
        let (old, graph) = (&self.inputs, &mut self.graph);
        kinds::visit(&mut Touch { old, new, graph });
        for kind in old.absent_kinds.symmetric_difference(&new.absent_kinds) {
            graph.touch(Unit::Absent(kind.clone()));
        }
        if old.trust_domain != new.trust_domain {
            graph.touch(Unit::TrustDomain);
        }
        if old.system_namespace != new.system_namespace {
            graph.touch(Unit::SystemNamespace);
        }
        if old.cluster_domain != new.cluster_domain {
            graph.touch(Unit::ClusterDomain);
        }
        if old.unreadable != new.unreadable {
            // Whether the settings in use can be read is part of what they say.
            graph.touch(Unit::MeshWide);
            for (kind, key) in old.unreadable.keys().chain(new.unreadable.keys()) {
                graph.touch(Unit::Unreadable(kind.clone(), key.clone()));
            }
        }
    }

    /// Puts what a unit has come to into the mesh.
    fn publish(&mut self, unit: &Unit, cluster: &ClusterId) {
        let (value, mesh) = (self.graph.value(unit), &mut self.mesh);
        match unit {
            Unit::Service(id) => put(&mut mesh.services, id, value.and_then(|it| variant!(it, Service))),
            Unit::Class(id) => put(&mut mesh.classes, id, value.and_then(|it| variant!(it, Class))),
            Unit::Grants(id) => put(&mut mesh.grants, id, value.and_then(|it| variant!(it, Grants))),
            Unit::Workload((namespace, name)) => {
                let (cluster, namespace, instance) = (cluster.clone(), namespace.clone(), name.clone());
                let workload = value.and_then(|it| variant!(it, Workload)).map(|(workload, _)| workload);
                put(&mut mesh.workloads, &ProxyId { cluster, namespace, instance }, workload);
            }
            _ => {}
        }
    }
}

/// Marks what reads the objects that differ.
struct Touch<'a> {
    old: &'a Inputs,
    new: &'a Inputs,
    graph: &'a mut Graph,
}

impl Visitor for Touch<'_> {
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        for key in differing((row.objects)(self.old), (row.objects)(self.new)) {
            for unit in (row.nodes)(key.clone()) {
                self.graph.touch(unit);
            }
        }
    }
}

fn put<K: Ord + Clone, V>(map: &mut Map<K, V>, key: &K, value: Option<&Arc<V>>) {
    match value {
        Some(value) => drop(map.insert(key.clone(), Arc::clone(value))),
        None => drop(map.remove(key)),
    }
}
