//! Mesh of one cluster: two states of its objects → invalidated nodes → the mesh of the newer state.
//!
//! Driven by `Lowering`, for each cluster separately. Computes no node itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smidge_mesh::{
    Map, Mesh,
    id::{ClusterId, ProxyId, SpiffeId},
    trust::{Bundle, Trust},
};

use super::{
    engine::{Findings, Graph},
    node::Node,
    source::{Lower, Lowered, Source},
    value::variant,
};
use crate::{
    inputs::{Inputs, Key, differing},
    kinds::{self, Row, Visitor, Watched},
};

/// Identities that each IdentityBinding resolves to.
pub type Bindings = BTreeMap<Key, Arc<BTreeSet<Arc<SpiffeId>>>>;

/// Returns the identities that each IdentityBinding of a cluster resolves to.
pub fn bindings(inputs: &Inputs) -> Bindings {
    // Only these inputs are read; all others have their defaults.
    let inputs = Inputs {
        pods: inputs.pods.clone(),
        external_workloads: inputs.external_workloads.clone(),
        identity_bindings: inputs.identity_bindings.clone(),
        // For the budget of an object.
        mesh_configs: inputs.mesh_configs.clone(),
        unreadable: inputs.unreadable.clone(),
        trust_domain: inputs.trust_domain.clone(),
        ..Inputs::default()
    };
    let mut cluster = Cluster::default();
    cluster.step(&ClusterId::default(), &inputs);
    cluster.bindings()
}

/// State of one cluster as it was lowered last.
#[derive(Default)]
pub(super) struct Cluster {
    source: Source,
    graph: Graph<Lower>,
    mesh: Mesh,
}

impl Cluster {
    /// Updates the mesh to the state `inputs`.
    pub fn step(&mut self, id: &ClusterId, inputs: &Inputs) {
        self.invalidate(inputs);
        let old = &self.source.inputs;
        let is_same_trust = old.roots == inputs.roots && old.trust_domain == inputs.trust_domain;
        let (before, now) = (Arc::clone(&old.reported), Arc::clone(&inputs.reported));
        if !Arc::ptr_eq(&before, &now) {
            self.graph.findings().replace(&before, &now);
        }
        self.source.cluster = id.clone();
        self.source.inputs = inputs.clone();
        self.graph.recompute(&self.source);
        for node in self.graph.take_changed() {
            self.publish(&node, id);
        }
        if !is_same_trust || self.mesh.trust.bundles.is_empty() {
            let bundle = Bundle { roots: inputs.roots.clone() };
            let domain = inputs.trust_domain.clone();
            let bundles = BTreeMap::from([(domain.clone(), bundle)]);
            self.mesh.trust = Arc::new(Trust { domain, bundles });
        }
    }

    /// Returns the mesh of the last state.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Returns the findings about the objects.
    pub fn findings(&mut self) -> &mut Findings {
        self.graph.findings()
    }

    /// Returns the counts of what was computed since the last call, and the number of nodes that exist.
    pub fn take_lowered(&mut self) -> Lowered {
        let counts = self.source.lowered.take();
        let kept = u64::try_from(self.graph.len()).unwrap_or(u64::MAX);
        Lowered { nodes: self.graph.take_recomputed(), kept, ..counts }
    }

    /// Returns the identities that each IdentityBinding resolves to.
    pub fn bindings(&self) -> Bindings {
        let value = |key: &Key| {
            let identities = variant!(self.graph.value(&Node::Binding(key.clone()))?, Identities)?;
            Some((key.clone(), Arc::clone(identities)))
        };
        self.source.inputs.identity_bindings.keys().filter_map(value).collect()
    }

    /// Invalidates the nodes of objects that differ.
    fn invalidate(&mut self, new: &Inputs) {
        let (old, graph) = (&self.source.inputs, &mut self.graph);
        kinds::visit(&mut Invalidate { old, new, graph });
        for kind in old.absent_kinds.symmetric_difference(&new.absent_kinds) {
            graph.invalidate(Node::Absent(kind.clone()));
        }
        if old.trust_domain != new.trust_domain {
            graph.invalidate(Node::TrustDomain);
        }
        if old.system_namespace != new.system_namespace {
            graph.invalidate(Node::SystemNamespace);
        }
        if old.cluster_domain != new.cluster_domain {
            graph.invalidate(Node::ClusterDomain);
        }
        if (old.access_logs, &old.tracing) != (new.access_logs, &new.tracing) {
            graph.invalidate(Node::MeshWide);
        }
        if old.unreadable != new.unreadable {
            // The settings depend on whether the MeshConfig in use can be read.
            graph.invalidate(Node::MeshWide);
            for (kind, key) in old.unreadable.keys().chain(new.unreadable.keys()) {
                graph.invalidate(Node::Unreadable(kind.clone(), key.clone()));
            }
        }
    }

    /// Puts the value of a node into the mesh.
    fn publish(&mut self, node: &Node, cluster: &ClusterId) {
        let (value, mesh) = (self.graph.value(node), &mut self.mesh);
        match node {
            Node::Service(id) => put(&mut mesh.services, id, value.and_then(|it| variant!(it, Service))),
            Node::Class(id) => put(&mut mesh.classes, id, value.and_then(|it| variant!(it, Class))),
            Node::Grants(id) => put(&mut mesh.grants, id, value.and_then(|it| variant!(it, Grants))),
            Node::MeshWide => {
                let settings = value.and_then(|it| variant!(it, MeshWide));
                mesh.settings = settings.map(|it| it.proxies.clone()).unwrap_or_default();
            }
            Node::Workload((namespace, name)) => {
                let (cluster, namespace, instance) = (cluster.clone(), namespace.clone(), name.clone());
                let workload = value.and_then(|it| variant!(it, Workload)).map(|(workload, _)| workload);
                put(&mut mesh.workloads, &ProxyId { cluster, namespace, instance }, workload);
            }
            _ => {}
        }
    }
}

/// Invalidates the nodes that read the objects that differ.
struct Invalidate<'a> {
    old: &'a Inputs,
    new: &'a Inputs,
    graph: &'a mut Graph<Lower>,
}

impl Visitor for Invalidate<'_> {
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        for key in differing((row.objects)(self.old), (row.objects)(self.new)) {
            for node in (row.nodes)(key.clone()) {
                self.graph.invalidate(node);
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
