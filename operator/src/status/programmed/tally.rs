//! How far an object has come among proxies: a count, and how the counts of several replicas add up.
//!
//! Part of `programmed`, which makes it; carried by `peers`, read by `conditions` and `plan`.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::finding::ObjectRef;

/// How many of those who refuse are quoted.
pub(super) const QUOTED: usize = 3;

/// How far an object has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckCount {
    /// Which object this is about.
    pub uid: String,
    /// The generation that the snapshot was made with.
    pub generation: Option<i64>,
    /// Whether a part of what proxies are given says what the object says, even if no proxy sees it now.
    pub in_effect: bool,
    /// The proxies that see it, connected or not.
    pub concerned: usize,
    /// Those that have it.
    pub acknowledged: usize,
    /// Those that refused it.
    pub refused: usize,
    /// Some of them, with their words.
    pub words: Vec<(String, String)>,
}

impl AckCount {
    /// Whether every proxy that it concerns has it.
    pub fn is_complete(&self) -> bool {
        self.acknowledged >= self.concerned
    }

    /// Adds what another replica counted among its own proxies. It counts only for the same state of the object.
    pub fn add(&mut self, other: &Self) {
        if self.uid != other.uid || self.generation != other.generation {
            return;
        }
        self.refused = (self.refused + other.refused).min(self.concerned);
        self.words.extend(other.words.iter().cloned());
        self.words.truncate(QUOTED);
        // While a proxy moves from one replica to another, both may have it; a refusal counts more.
        self.acknowledged = (self.acknowledged + other.acknowledged).min(self.concerned - self.refused);
    }
}

/// The tallies of every object. A copy costs nothing, and two are compared at the cost of what they do not share.
pub type AckCounts = OrdMap<ObjectRef, Arc<AckCount>>;
