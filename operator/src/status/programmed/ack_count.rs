//! Acknowledgement counts of an object, and the sum of the counts of several replicas.
//!
//! Part of `programmed`, which computes the counts; carried by `peers`, read by `conditions` and `plan`.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::finding::ObjectRef;

/// Maximum number of refusing proxies that are quoted.
pub(super) const QUOTED: usize = 3;

/// Acknowledgement counts of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckCount {
    /// UID of the object.
    pub uid: String,
    /// Generation of the object that the snapshot was built from.
    pub generation: Option<i64>,
    /// True if a part of the proxies' configuration has the object as its source, even if no proxy sees it now.
    pub in_effect: bool,
    /// Number of proxies that see it, connected or not.
    pub concerned: usize,
    /// Number of proxies that have acknowledged it.
    pub acknowledged: usize,
    /// Number of proxies that have refused it.
    pub refused: usize,
    /// Some of the proxies that have refused it, each with the message of its NACK.
    pub words: Vec<(String, String)>,
}

impl AckCount {
    /// Returns true if every proxy that it concerns has acknowledged it.
    pub fn is_complete(&self) -> bool {
        self.acknowledged >= self.concerned
    }

    /// Adds the counts of another replica's own proxies, if they are of the same generation of the object.
    pub fn add(&mut self, other: &Self) {
        if self.uid != other.uid || self.generation != other.generation {
            return;
        }
        self.refused = (self.refused + other.refused).min(self.concerned);
        self.words.extend(other.words.iter().cloned());
        self.words.truncate(QUOTED);
        // While a proxy moves from one replica to another, both may count it; a refusal takes precedence.
        self.acknowledged = (self.acknowledged + other.acknowledged).min(self.concerned - self.refused);
    }
}

/// Counts of every object. A copy costs nothing, and two are compared at the cost of what they do not share.
pub type AckCounts = OrdMap<ObjectRef, Arc<AckCount>>;
