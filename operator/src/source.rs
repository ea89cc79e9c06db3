//! Sources of objects: each turns what it reads into [`Edit`]s of `Inputs`, or into whole `Inputs` at once.
//!
//! `kubernetes` watches an API server and `folder` a folder of manifests, both for `publish`; `files` reads manifests
//! for the offline tools. `publish` consumes edits and knows no source. Judges no object.

pub mod files;
pub mod folder;
pub mod kubernetes;

use std::collections::BTreeSet;

use smidge_mesh::id::ClusterId;

use crate::{
    inputs::{Inputs, Key},
    kinds::Change,
};

/// One change of the inputs.
pub struct Edit {
    /// Cluster whose inputs change.
    pub cluster: ClusterId,
    /// The objects that changed.
    pub scope: Scope,
    /// The change. Returns the effect that it can have: a status that the operator wrote itself has none on the mesh.
    pub apply: Box<dyn FnOnce(&mut Inputs) -> Change + Send>,
    /// Name of the list that the edit completes, if it does: a kind, or a folder. It then counts as read.
    pub completes: Option<&'static str>,
}

/// Objects that an edit changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Objects by kind, as in `TrafficSplit`, and name.
    Objects(BTreeSet<(&'static str, Key)>),
    /// All objects of a kind.
    Kind(&'static str),
}

impl Scope {
    /// Returns the scope of one object.
    pub fn object(kind: &'static str, key: Key) -> Self {
        Self::Objects(BTreeSet::from([(kind, key)]))
    }
}
