//! Mesh of all clusters: the states of their objects → one mesh, and the findings about the objects.
//!
//! Called by `publish` and the offline tools. Continues from the previous states. Computes no node itself; `cluster`
//! has the state of each cluster, `merge` adds their meshes.

use std::{collections::BTreeMap, sync::Arc};

use smidge_mesh::{Mesh, id::ClusterId};

use crate::{cluster::Cluster, finding::Finding, inputs::Inputs, merge, source::Lowered};

/// Returns the mesh of all clusters, and the findings about their objects, errors first.
///
/// The cluster with the default name counts as that of the control plane, or the first one if there is no such cluster.
pub fn lower(clusters: &BTreeMap<ClusterId, Inputs>) -> (Mesh, Vec<Finding>) {
    let own = ClusterId::default();
    let own = if clusters.contains_key(&own) { own } else { clusters.keys().next().cloned().unwrap_or(own) };
    let (mesh, findings) = Lowering::new(own).next(clusters);
    (mesh, Arc::unwrap_or_clone(findings))
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
