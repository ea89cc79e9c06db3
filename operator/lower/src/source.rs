//! What lies outside the graph: the objects that nodes are computed from.
//!
//! Kept by `cluster`, which invalidates what a change of them touches; seen by way of `context`. Computes nothing.

use std::cell::Cell;

use smidge_mesh::id::ClusterId;

use crate::{Lowered, inputs::Inputs};

/// Lowering as the schema of a graph.
#[derive(Debug)]
pub(super) struct Lower;

/// What nodes are computed from.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub cluster: ClusterId,
    pub inputs: Inputs,
    /// Services and workloads computed so far.
    pub lowered: Cell<Lowered>,
}
