//! Findings of all nodes of a cluster, each once, however many nodes report it.
//!
//! Kept by `graph` beside the nodes; returned by `Lowering`. Evaluates nothing.

use std::{collections::BTreeMap, mem};

use crate::finding::Finding;

/// Findings with the number of nodes that report them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    counts: BTreeMap<Finding, usize>,
    has_changed: bool,
}

impl Findings {
    /// Replaces the findings of a node.
    pub fn replace(&mut self, old: &[Finding], new: &[Finding]) {
        for finding in new {
            if let Some(count) = self.counts.get_mut(finding) {
                *count += 1;
            } else {
                self.counts.insert(finding.clone(), 1);
                self.has_changed = true;
            }
        }
        for finding in old {
            let Some(count) = self.counts.get_mut(finding) else { continue };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(finding);
                self.has_changed = true;
            }
        }
    }

    /// Returns all findings, errors first.
    pub fn all(&self) -> impl Iterator<Item = &Finding> {
        self.counts.keys()
    }

    /// Returns true if they may have changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        mem::take(&mut self.has_changed)
    }
}
