//! The findings of all units of a cluster, each once, however many units say it.
//!
//! Kept by `graph` beside the units; handed out by `Lowering`. Judges nothing.

use std::{collections::BTreeMap, mem};

use crate::finding::Finding;

/// Findings with the number of units that say them.
#[derive(Debug, Default)]
pub(super) struct Found {
    counts: BTreeMap<Finding, usize>,
    has_news: bool,
}

impl Found {
    /// A unit says `new` now where it said `old`.
    pub fn replace(&mut self, old: &[Finding], new: &[Finding]) {
        for finding in new {
            if let Some(count) = self.counts.get_mut(finding) {
                *count += 1;
            } else {
                self.counts.insert(finding.clone(), 1);
                self.has_news = true;
            }
        }
        for finding in old {
            let Some(count) = self.counts.get_mut(finding) else { continue };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(finding);
                self.has_news = true;
            }
        }
    }

    /// All of them, errors first.
    pub fn all(&self) -> impl Iterator<Item = &Finding> {
        self.counts.keys()
    }

    /// Whether they may be others than when this was asked last.
    pub fn take_news(&mut self) -> bool {
        mem::take(&mut self.has_news)
    }
}
