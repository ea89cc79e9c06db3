//! Context in which a node is computed: other nodes, each of which becomes a dependency when it is read, and the data
//! outside the graph.
//!
//! Passed by `graph` to [`Schema::compute`]. What is read here, and only that, invalidates the node when it changes.
//! Computes nothing itself.

use std::sync::Arc;

use super::{
    Schema,
    graph::{Computed, Contribution, Graph},
};
use crate::finding::{Finding, ObjectRef, Reason};

/// Context of the node that is being computed.
pub(crate) struct Context<'a, S: Schema> {
    graph: &'a mut Graph<S>,
    node: &'a Arc<S::Node>,
    source: &'a S::Source,
    computed: Computed<S>,
}

impl<'a, S: Schema> Context<'a, S> {
    pub(super) fn new(graph: &'a mut Graph<S>, node: &'a Arc<S::Node>, source: &'a S::Source) -> Self {
        Self { graph, node, source, computed: Computed::default() }
    }

    pub(super) fn done(self) -> Computed<S> {
        self.computed
    }

    /// Returns the node that is being computed.
    pub fn node(&self) -> &'a Arc<S::Node> {
        self.node
    }

    /// Returns the data outside the graph.
    pub fn source(&self) -> &'a S::Source {
        self.source
    }

    /// Value of a node that contributes, or of one that was read as a member of a set: no dependency is recorded.
    pub fn value(&self, node: &S::Node) -> Option<&S::Value> {
        self.graph.value(node)
    }

    /// Part that a contributor gives to the node: no dependency is recorded.
    pub fn part(&self, contributor: &S::Node) -> Option<&S::Value> {
        self.graph.part(contributor, self.node)
    }

    /// Number of members of a set; no dependency is recorded.
    pub fn count(&self, set: &S::Node) -> usize {
        self.graph.count(set)
    }

    /// Reports a finding.
    pub fn report(&mut self, finding: Finding) {
        self.computed.findings.push(finding);
    }

    /// Reports a finding about a field of an object.
    pub fn report_at(
        &mut self,
        object: &ObjectRef,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.report(Finding::new(object.clone(), reason, message).at(field));
    }

    /// The findings reported so far.
    pub fn findings(&mut self) -> &mut Vec<Finding> {
        &mut self.computed.findings
    }

    /// Makes the node a contributor of another one, which is computed from its contributors: again whenever the value of
    /// this node changes.
    pub fn contribute_to(&mut self, node: S::Node) {
        self.contribute(node, None);
    }

    /// Makes the node a contributor of another one, to which it gives a part of what it knows: the other is computed again
    /// when the part changes, and reads no more of this node than that ([`Context::part`]).
    pub fn contribute_part(&mut self, node: S::Node, part: S::Value) {
        self.contribute(node, Some(part));
    }

    fn contribute(&mut self, node: S::Node, part: Option<S::Value>) {
        let node = self.graph.intern(node);
        debug_assert!(
            node > *self.node,
            "{:?} contributes to {node:?}, which is computed before it",
            self.node
        );
        self.computed.contributes_to.push(Contribution { node, part });
    }

    /// Value of a lesser node, which becomes a dependency.
    pub fn read(&mut self, node: S::Node) -> Option<S::Value> {
        debug_assert!(node < **self.node, "{:?} reads {node:?}, which is computed after it", self.node);
        let (node, value) = self.graph.ask(node, self.source);
        self.computed.dependencies.push(node);
        value
    }

    /// The members of a set.
    pub fn members(&mut self, set: S::Node) -> Vec<Arc<S::Node>> {
        let set = self.graph.intern(set);
        let members = self.graph.contributors(&set).cloned().collect();
        self.computed.dependencies.push(set);
        members
    }

    /// Returns true if a set has members.
    pub fn is_any(&mut self, set: S::Node) -> bool {
        let set = self.graph.intern(set);
        let is_any = self.graph.count(&set) > 0;
        self.computed.dependencies.push(set);
        is_any
    }

    /// Nodes that contribute to the node. No dependency is recorded: a contributor that changes invalidates it anyway.
    pub fn contributors(&self) -> Vec<Arc<S::Node>> {
        self.graph.contributors(self.node).cloned().collect()
    }
}
