//! Sources of objects: each turns what it reads into [`Edit`]s of `Inputs`, or into whole `Inputs` at once.
//!
//! `kubernetes` watches an API server for `publish`; `files` reads manifests for the offline tools. `publish` consumes edits and
//! knows no source. Judges no object.

pub mod files;
pub mod kubernetes;

use crate::{
    inputs::{Inputs, Key},
    kinds::Change,
};

/// One change of the inputs.
pub struct Edit {
    /// The kind that changed, as in `TrafficSplit`.
    pub kind: &'static str,
    /// The object that it is about; none if it is about all of the kind.
    pub key: Option<Key>,
    /// The change. Returns what it can change: a status that we wrote ourselves changes nothing.
    pub apply: Box<dyn FnOnce(&mut Inputs) -> Change + Send>,
    /// Whether this is a complete list, after which the kind counts as read.
    pub complete: bool,
}
