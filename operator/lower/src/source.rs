//! Data outside the graph: the objects that nodes are computed from.
//!
//! Kept by `cluster`, which invalidates the nodes that a change of it affects; read through `context`. Computes
//! nothing, and counts what was computed.

use std::cell::Cell;

use smidge_mesh::id::ClusterId;

use crate::inputs::Inputs;

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

impl Lowered {
    pub(super) fn add(&mut self, more: Self) {
        self.services += more.services;
        self.workloads += more.workloads;
        self.nodes += more.nodes;
        self.kept += more.kept;
    }
}
