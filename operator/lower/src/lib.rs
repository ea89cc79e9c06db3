//! Turns the objects of the clusters into one mesh, and into findings about what is wrong with them.
//!
//! Pure and total: any inputs yield a mesh. A defect in an object removes only the effect of that object and yields a
//! finding; what cannot be read allows nothing. One file per Kubernetes or SMI noun; `publish` and the offline tools
//! call it. Does not know Envoy.
//!
//! Lowering is a graph (`engine`, docs/design/010) of nodes (`node`). Each node records what it has read (`context`),
//! so that a change recomputes only the nodes that it can affect.

pub mod admission;
mod budget;
pub mod bypass;
mod cluster;
mod compute;
mod context;
mod cost;
pub mod documents;
mod engine;
pub mod explain;
pub mod finding;
pub mod inputs;
pub mod kinds;
mod kubernetes;
mod merge;
mod node;
mod route_source;
mod smi;
mod source;
mod table;
mod value;

pub use self::{
    kubernetes::{settings::injects_strictly, workload},
    smi::regex,
};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smidge_mesh::{
    Mesh,
    id::{ClusterId, SpiffeId},
};

use self::cluster::Cluster;
use crate::{
    finding::Finding,
    inputs::{Inputs, Key},
};

/// Returns the mesh of all clusters, and the findings about their objects, errors first.
///
/// The cluster with the default name counts as that of the control plane, or the first one if there is no such cluster.
pub fn lower(clusters: &BTreeMap<ClusterId, Inputs>) -> (Mesh, Vec<Finding>) {
    let own = ClusterId::default();
    let own = if clusters.contains_key(&own) { own } else { clusters.keys().next().cloned().unwrap_or(own) };
    let (mesh, findings) = Lowering::new(own).next(clusters);
    (mesh, Arc::unwrap_or_clone(findings))
}

/// Identities that each IdentityBinding resolves to.
pub type Bindings = BTreeMap<Key, Arc<BTreeSet<Arc<SpiffeId>>>>;

/// Returns the identities that each IdentityBinding of a cluster resolves to.
pub fn bindings(inputs: &Inputs) -> Bindings {
    // Only these inputs are read; all others have their defaults.
    let inputs = Inputs {
        pods: inputs.pods.clone(),
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

/// State of the clusters as they were lowered last, so that the next mesh costs only what has changed. Yields the same
/// mesh and findings as `lower`. The meshes of all clusters but the own one are merged again at each step, at the cost of
/// their whole size.
#[derive(Default)]
pub struct Lowering {
    own: ClusterId,
    clusters: BTreeMap<ClusterId, Cluster>,
    findings: Arc<Vec<Finding>>,
    lowered: Lowered,
}

/// Counts of the nodes computed so far, and of the nodes that exist now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lowered {
    /// Number of Services lowered; a Service counts each time that it is lowered.
    pub services: u64,
    /// Number of workload instances lowered, counted in the same way.
    pub workloads: u64,
    /// Number of nodes computed, of any kind: objects that were read, and all that was computed from them.
    pub nodes: u64,
    /// Number of nodes that exist now.
    pub kept: u64,
}

impl Lowering {
    /// Returns a state in which nothing is lowered. `own` is the cluster of the control plane: its trust domain is that of
    /// the mesh, and of a Service that several clusters have, its ports take precedence. Findings about objects of other
    /// clusters name their cluster.
    pub fn new(own: ClusterId) -> Self {
        Self { own, ..Self::default() }
    }

    /// Returns the mesh of all clusters in their current state, and the findings about their objects, errors first. If
    /// no node reports anything new, the findings are the same `Arc` as before.
    pub fn next(&mut self, clusters: &BTreeMap<ClusterId, Inputs>) -> (Mesh, Arc<Vec<Finding>>) {
        let known = self.clusters.len();
        self.clusters.retain(|cluster, _| clusters.contains_key(cluster));
        let mut has_changed = self.clusters.len() != known;
        self.lowered.kept = 0;
        for (id, inputs) in clusters {
            let cluster = self.clusters.entry(id.clone()).or_default();
            cluster.step(id, inputs);
            has_changed |= cluster.findings().take_changed();
            self.lowered.add(cluster.take_lowered());
        }
        if has_changed {
            self.findings = Arc::new(self.all_findings());
        }
        // The control plane's cluster first, as `merge` lets the first one decide.
        let own = self.clusters.get(&self.own).map(Cluster::mesh).cloned();
        let others =
            self.clusters.iter().filter(|(id, _)| **id != self.own).map(|(_, cluster)| cluster.mesh());
        let mut mesh = own.unwrap_or_default();
        others.for_each(|other| merge::add(&mut mesh, other));
        (mesh, Arc::clone(&self.findings))
    }

    /// Returns the findings of all clusters, errors first.
    fn all_findings(&mut self) -> Vec<Finding> {
        let own = &self.own;
        let of_each = self.clusters.iter_mut().flat_map(|(id, cluster)| {
            cluster.findings().all().cloned().map(move |mut finding| {
                if id != own {
                    finding.object = finding.object.in_cluster(id.clone());
                }
                finding
            })
        });
        let mut all: Vec<Finding> = of_each.collect();
        if self.clusters.len() > 1 {
            all.sort();
        }
        all
    }

    /// Returns the counts so far.
    pub fn lowered(&self) -> Lowered {
        self.lowered
    }
}

impl Lowered {
    fn add(&mut self, more: Self) {
        self.services += more.services;
        self.workloads += more.workloads;
        self.nodes += more.nodes;
        self.kept += more.kept;
    }
}
