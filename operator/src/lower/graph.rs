//! Dependency graph of lowering: invalidated nodes → recomputed values, and nothing recomputed that a change cannot touch.
//!
//! Driven by `cluster`, which invalidates nodes; `lower::compute` computes one. A node that comes to the same value as before
//! stops there: its dependents stay as they are. Knows no object and no meaning.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use smidge_xds::mesh::id::ClusterId;

use super::{
    Lowered,
    context::Context,
    findings::Findings,
    node::{Node, Value},
};
use crate::{finding::Finding, inputs::Inputs};

/// A node's value, and what it has to do with others.
#[derive(Debug, Default)]
struct Entry {
    value: Option<Value>,
    findings: Vec<Finding>,
    /// The nodes that it has read, sorted, and those that have read it.
    dependencies: Vec<Arc<Node>>,
    dependents: BTreeSet<Arc<Node>>,
    /// The nodes that it is a part of, sorted, and those that are a part of it.
    contributes_to: Vec<Arc<Node>>,
    contributors: BTreeSet<Arc<Node>>,
    is_computed: bool,
}

/// What computing a node yields beside its value.
#[derive(Debug, Default)]
pub(super) struct Computed {
    pub findings: Vec<Finding>,
    pub dependencies: Vec<Arc<Node>>,
    pub contributes_to: Vec<Arc<Node>>,
}

/// All nodes of a cluster.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Arc<Node>, Entry>,
    dirty: BTreeSet<Arc<Node>>,
    findings: Findings,
    /// The parts of the mesh whose value has changed.
    changed: Vec<Arc<Node>>,
    lowered: Lowered,
}

impl Graph {
    /// Value of a node.
    pub fn value(&self, node: &Node) -> Option<&Value> {
        self.nodes.get(node)?.value.as_ref()
    }

    /// Nodes that contribute to a node.
    pub fn contributors(&self, node: &Node) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.get(node).into_iter().flat_map(|entry| &entry.contributors)
    }

    /// Number of nodes that contribute to a node.
    pub fn count(&self, node: &Node) -> usize {
        self.nodes.get(node).map_or(0, |entry| entry.contributors.len())
    }

    /// Findings of all nodes.
    pub fn findings(&mut self) -> &mut Findings {
        &mut self.findings
    }

    /// Parts of the mesh whose value has changed since the last call; one may be named twice.
    pub fn take_changed(&mut self) -> Vec<Arc<Node>> {
        mem::take(&mut self.changed)
    }

    /// Counts of what was computed since the last call, and of what there is.
    pub fn take_lowered(&mut self) -> Lowered {
        Lowered { kept: u64::try_from(self.nodes.len()).unwrap_or(u64::MAX), ..mem::take(&mut self.lowered) }
    }

    /// Marks a node whose object has changed.
    pub fn invalidate(&mut self, node: Node) {
        let node = self.intern(node);
        self.mark_dirty(node);
    }

    /// Computes dirty nodes, until none is left.
    pub fn recompute(&mut self, cluster: &ClusterId, inputs: &Inputs) {
        while let Some(node) = self.dirty.pop_first() {
            self.compute(&node, cluster, inputs);
            self.collect(&node);
        }
    }

    /// Shared form of a node.
    pub fn intern(&mut self, node: Node) -> Arc<Node> {
        if let Some((shared, _)) = self.nodes.get_key_value(&node) {
            return Arc::clone(shared);
        }
        let node = Arc::new(node);
        self.nodes.insert(Arc::clone(&node), Entry::default());
        node
    }

    /// Value of a node, which is computed if it was never asked for. The caller is about to become its dependent.
    pub fn ask(&mut self, node: Node, cluster: &ClusterId, inputs: &Inputs) -> (Arc<Node>, Option<Value>) {
        if let Some((node, entry)) = self.nodes.get_key_value(&node)
            && entry.is_computed
        {
            return (Arc::clone(node), entry.value.clone());
        }
        let node = self.intern(node);
        self.compute(&node, cluster, inputs);
        let value = self.value(&node).cloned();
        (node, value)
    }

    fn compute(&mut self, node: &Arc<Node>, cluster: &ClusterId, inputs: &Inputs) {
        let Some(entry) = self.nodes.get(node) else { return };
        let Lowered { services, workloads, nodes, .. } = &mut self.lowered;
        *nodes += 1;
        *services += u64::from(matches!(**node, Node::Service(_)));
        *workloads += u64::from(matches!(**node, Node::Workload(_)));
        if node.is_contributed() && entry.contributors.is_empty() {
            return self.store(node, None, Computed::default());
        }
        let mut context = Context::new(self, node, cluster, inputs);
        let value = super::compute(node, &mut context);
        let mut computed = context.done();
        for nodes in [&mut computed.dependencies, &mut computed.contributes_to] {
            nodes.sort();
            nodes.dedup();
        }
        self.store(node, value, computed);
    }

    /// Stores what a node has come to, and marks what depends on it. Most of it is as it was.
    fn store(&mut self, node: &Arc<Node>, value: Option<Value>, computed: Computed) {
        let Computed { findings, dependencies, contributes_to } = computed;
        let Self { nodes, dirty, findings: all, changed, .. } = self;
        let entry = nodes.entry(Arc::clone(node)).or_default();
        entry.is_computed = true;
        let has_changed = entry.value != value;
        if has_changed {
            entry.value = value;
            // No dependent is a set.
            dirty.extend(entry.dependents.iter().cloned());
            if node.is_of_mesh() {
                changed.push(Arc::clone(node));
            }
        }
        if entry.findings != findings {
            all.replace(&entry.findings, &findings);
            entry.findings = findings;
        }
        let targets = if has_changed { contributes_to.clone() } else { Vec::new() };
        let given = (entry.contributes_to != contributes_to)
            .then(|| (mem::replace(&mut entry.contributes_to, contributes_to.clone()), contributes_to));
        let read = (entry.dependencies != dependencies)
            .then(|| (mem::replace(&mut entry.dependencies, dependencies.clone()), dependencies));
        if let Some((old, new)) = given {
            self.contribute(node, &old, &new);
        }
        if let Some((old, new)) = read {
            self.depend(node, &old, &new);
        }
        for target in targets {
            self.mark_dirty(target);
        }
    }

    /// Replaces what a node contributes to.
    fn contribute(&mut self, node: &Arc<Node>, old: &[Arc<Node>], new: &[Arc<Node>]) {
        for gone in without(old, new) {
            self.nodes.entry(Arc::clone(gone)).or_default().contributors.remove(node);
            self.mark_dirty(Arc::clone(gone));
            self.collect(gone);
        }
        for given in without(new, old) {
            self.nodes.entry(Arc::clone(given)).or_default().contributors.insert(Arc::clone(node));
            self.mark_dirty(Arc::clone(given));
        }
    }

    /// Replaces what a node depends on.
    fn depend(&mut self, node: &Arc<Node>, old: &[Arc<Node>], new: &[Arc<Node>]) {
        for read in without(new, old) {
            self.nodes.entry(Arc::clone(read)).or_default().dependents.insert(Arc::clone(node));
        }
        for gone in without(old, new) {
            self.drop_dependency(gone, node);
        }
    }

    /// A set has nothing to compute: its dependents are marked in its place.
    fn mark_dirty(&mut self, node: Arc<Node>) {
        if !node.is_set() {
            self.dirty.insert(node);
        } else if let Some(entry) = self.nodes.get(&node) {
            self.dirty.extend(entry.dependents.iter().cloned());
        }
    }

    fn drop_dependency(&mut self, node: &Arc<Node>, dependent: &Arc<Node>) {
        if let Some(entry) = self.nodes.get_mut(node) {
            entry.dependents.remove(dependent);
        }
        self.collect(node);
    }

    /// Removes a node without a value, dependents and contributors. One that has read others is kept, as they may give it a
    /// value yet, unless it is there on demand only.
    fn collect(&mut self, node: &Arc<Node>) {
        let Some(entry) = self.nodes.get(node) else { return };
        let is_alone = entry.dependents.is_empty() && entry.contributors.is_empty();
        let is_nothing = entry.value.is_none() && entry.dependencies.is_empty() && entry.findings.is_empty();
        if !is_alone || !(is_nothing || node.is_on_demand()) || self.dirty.contains(node) {
            return;
        }
        let Some(entry) = self.nodes.remove(node) else { return };
        for read in &entry.dependencies {
            self.drop_dependency(read, node);
        }
    }
}

/// What of `all` is not in `others`, both sorted.
fn without<'a>(all: &'a [Arc<Node>], others: &'a [Arc<Node>]) -> impl Iterator<Item = &'a Arc<Node>> {
    all.iter().filter(|node| others.binary_search(node).is_err())
}
