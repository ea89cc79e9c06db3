//! Keeps what counters have counted that ended, for as long as another one has the same labels.
//!
//! Pure. Kept by `store`, beside the counters; read by `families`. A metric with fewer labels than the counters is a sum of
//! them: without this it would decrease when one of them ends, which Prometheus reads as a restart and counts once more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{FAMILIES, Family};
use crate::{counters::Key, series::Value, traffic::Side};

/// Counters that ended, or that exist, with their values.
pub type Values = Vec<(Arc<Key>, Value)>;

/// Counters of a replica at one time.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Those that exist.
    pub counters: Values,
    /// Calls that others have counted before they ended.
    pub ended: Ended,
}

/// Values of the counters that ended, by metric and by one that exists and has the same labels there. So there are never
/// more of them than counters, and a sample ends with its last counter.
#[derive(Debug, Clone, Default)]
pub struct Ended(BTreeMap<&'static str, BTreeMap<Arc<Key>, Value>>);

impl Ended {
    /// Takes counters that ended. `existing` are the others.
    pub fn take<'a>(&mut self, ended: &Values, existing: impl Iterator<Item = &'a Arc<Key>>) {
        if ended.is_empty() {
            return;
        }
        // Every metric has the side and the namespace of the proxy that has counted, so others need not be looked at.
        let scope = |key: &Key| (key.calls.side, key.calls.namespace().to_owned());
        let scopes: BTreeSet<(Side, String)> = ended.iter().map(|(key, _)| scope(key)).collect();
        let near: Vec<&Arc<Key>> = existing.filter(|key| scopes.contains(&scope(key))).collect();
        for family in &FAMILIES {
            let kept = self.0.entry(family.name).or_default();
            let ended = ended.iter().filter(|(key, _)| family.has(key));
            let mut sums = BTreeMap::new();
            for (key, value) in ended {
                let labels = family.labels_of(key, "");
                let before = kept.remove(key);
                for value in [Some(value), before.as_ref()].into_iter().flatten() {
                    add(&mut sums, labels.clone(), value);
                }
            }
            for key in near.iter().filter(|key| family.has(key)) {
                if sums.is_empty() {
                    break;
                }
                if let Some(value) = sums.remove(&family.labels_of(key, "")) {
                    add(kept, Arc::clone(key), &value);
                }
            }
        }
    }

    /// Returns what a metric has of them.
    pub(super) fn of(&self, family: &Family) -> impl Iterator<Item = (&Arc<Key>, &Value)> {
        self.0.get(family.name).into_iter().flatten()
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Adds to the sum of a key.
pub(super) fn add<K: Ord>(sums: &mut BTreeMap<K, Value>, key: K, value: &Value) {
    match sums.get_mut(&key) {
        Some(sum) => sum.add(value),
        None => drop(sums.insert(key, value.clone())),
    }
}
