//! Engine of lowering: a dependency graph that recomputes only what a change can affect, for any schema.
//!
//! Used by `cluster`; [`Schema`] defines the nodes and how each is computed. Knows no object of Kubernetes or SMI and
//! no part of a mesh: its own tests compute sums.

mod context;
mod findings;
mod graph;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, hash::Hash, sync::Arc};

pub(super) use self::{context::Context, findings::Findings, graph::Graph};

/// Definition of what a graph computes.
pub(super) trait Schema: Sized {
    /// Name of a node. The order of names is the order of computation: a node reads lesser nodes and contributes to
    /// greater ones.
    type Node: Ord + Hash + Clone + Debug;
    /// Value of a node.
    type Value: Clone + PartialEq + Debug;
    /// Data outside the graph. Code that changes it invalidates the nodes that read it.
    type Source;

    /// Role of a node.
    fn role(node: &Self::Node) -> Role;

    /// Returns true if the changes of a node's value are listed ([`Graph::take_changed`]).
    fn is_output(node: &Self::Node) -> bool;

    /// Computes the value of a node.
    fn compute(node: &Arc<Self::Node>, context: &mut Context<'_, Self>) -> Option<Self::Value>;
}

/// Role of a node: the origin of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The node is computed from data outside the graph, a change of which invalidates it.
    Source,
    /// The node represents its contributors and has no value of its own: a node that reads it depends on all of them.
    Set,
    /// The node is computed from its contributors, and has no value without them.
    Contributed,
    /// The node exists only while other nodes read it.
    OnDemand,
}
