//! The engine of lowering: a dependency graph that recomputes what a change can touch, whatever is computed.
//!
//! Used by `cluster`; [`Schema`] says what the nodes are and how each is computed. Knows no object of Kubernetes or SMI and no
//! part of a mesh: its own tests compute sums.

mod context;
mod findings;
mod graph;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, hash::Hash, sync::Arc};

pub(super) use self::{context::Context, findings::Findings, graph::Graph};

/// What a graph computes.
pub(super) trait Schema: Sized {
    /// Names of nodes. Their order is the order of computing: a node reads lesser ones and contributes to greater ones.
    type Node: Ord + Hash + Clone + Debug;
    /// What nodes come to.
    type Value: Clone + PartialEq + Debug;
    /// What lies outside the graph. Whoever changes it invalidates the nodes that see it.
    type Source;

    /// Role of a node.
    fn role(node: &Self::Node) -> Role;

    /// Returns whether the changes of a node's value are listed ([`Graph::take_changed`]).
    fn is_output(node: &Self::Node) -> bool;

    /// Computes the value of a node.
    fn compute(node: &Arc<Self::Node>, context: &mut Context<'_, Self>) -> Option<Self::Value>;
}

/// How a node comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is computed from something outside the graph, which invalidates it.
    Source,
    /// It stands for its contributors and has no value of its own: whoever reads it depends on all of them.
    Set,
    /// It is computed from its contributors, and has no value without them.
    Contributed,
    /// It exists only while other nodes read it.
    OnDemand,
}
