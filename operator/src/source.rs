//! Sources of objects: each turns what it reads into [`Edit`]s of `Inputs`, or into whole `Inputs` at once.
//!
//! `kubernetes` watches an API server for `publish`; `files` reads manifests for the offline tools. `publish` consumes
//! edits and knows no source. Judges no object.

pub mod files;
pub mod kubernetes;

use smidge_mesh::id::ClusterId;

use crate::{
    inputs::{Inputs, Key},
    kinds::Change,
};

/// One change of the inputs.
pub struct Edit {
    /// Cluster whose inputs change.
    pub cluster: ClusterId,
    /// Kind that changed, as in `TrafficSplit`.
    pub kind: &'static str,
    /// Object that changed; `None` if the edit is about all objects of the kind.
    pub key: Option<Key>,
    /// The change. Returns the effect that it can have: a status that the operator wrote itself has none on the mesh.
    pub apply: Box<dyn FnOnce(&mut Inputs) -> Change + Send>,
    /// True if this is a complete list, after which the kind counts as read.
    pub complete: bool,
}
