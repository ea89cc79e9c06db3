//! Data outside the graph: the objects that nodes are computed from.
//!
//! Kept by `cluster`, which invalidates the nodes that a change of it affects; read through `context`. Computes
//! nothing.

use std::cell::Cell;

use smidge_mesh::id::ClusterId;

use crate::{Lowered, inputs::Inputs};

/// Lowering as the schema of a graph.
#[derive(Debug)]
pub(super) struct Lower;

/// Data that nodes are computed from.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub cluster: ClusterId,
    pub inputs: Inputs,
    /// Counts of the Services and workloads computed so far.
    pub lowered: Cell<Lowered>,
}
