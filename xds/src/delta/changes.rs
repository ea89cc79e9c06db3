//! Finds what differs between two views, once for all the streams that go from the one to the other.
//!
//! Used by the server's streams; a thousand proxies of one class then cost one comparison, not a thousand. The
//! difference from the directly preceding view was computed when the view was made, and is stored there.
//! Does not decide what is sent: that depends on the stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

pub use crate::view::Changes;
use crate::view::{self, View};

/// Returns the changes from `old` to `new`: known if that is one step, and otherwise computed.
pub fn between(old: &Arc<View>, new: &View) -> Arc<Changes> {
    new.changes_after(old).cloned().unwrap_or_else(|| Arc::new(view::changes(&old.resources, &new.resources)))
}

/// Remembers the changes between pairs of views for as long as both live.
#[derive(Debug, Default)]
pub struct Memo(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    pairs: HashMap<(usize, usize), Entry>,
    /// Number of pairs at which those that have ended are removed: twice the number of live ones at the last removal,
    /// so that a thousand pairs in a row do not cost a thousand scans of all of them.
    full: usize,
}

/// Minimum number of pairs that are worth a scan.
const FEW: usize = 64;

/// Changes of a pair of views. The weak references keep the addresses of the key from being reused.
#[derive(Debug)]
struct Entry {
    old: Weak<View>,
    new: Weak<View>,
    changes: Arc<Changes>,
}

impl Memo {
    /// Returns the changes from `old` to `new`: known if that is one step, and otherwise computed by the first caller.
    pub fn between(&self, old: &Arc<View>, new: &Arc<View>) -> Arc<Changes> {
        if let Some(changes) = new.changes_after(old) {
            return Arc::clone(changes);
        }
        let key = (Arc::as_ptr(old) as usize, Arc::as_ptr(new) as usize);
        // Held while computing: callers that wait would otherwise all compute the same.
        let mut entries = lock(&self.0);
        if let Some(entry) = entries.pairs.get(&key) {
            return Arc::clone(&entry.changes);
        }
        if entries.pairs.len() >= entries.full {
            entries.pairs.retain(|_, entry| entry.old.strong_count() > 0 && entry.new.strong_count() > 0);
            entries.full = FEW.max(entries.pairs.len() * 2);
        }
        let changes = Arc::new(view::changes(&old.resources, &new.resources));
        let entry =
            Entry { old: Arc::downgrade(old), new: Arc::downgrade(new), changes: Arc::clone(&changes) };
        entries.pairs.insert(key, entry);
        changes
    }
}

/// Locks the entries, poisoned or not: a panic of another holder leaves plain data behind, which is still valid.
fn lock(entries: &Mutex<Entries>) -> MutexGuard<'_, Entries> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        resources::{Resource, ResourceType, Version},
        view::Named,
    };

    fn view(resources: &[(ResourceType, &str, &str)]) -> Arc<View> {
        let resources = resources.iter().map(|&(kind, name, version)| {
            let name: Arc<str> = name.into();
            let (version, body) = (Version::new(version), prost::bytes::Bytes::new());
            ((kind, Arc::clone(&name)), Arc::new(Resource { kind, name, version, body }))
        });
        Arc::new(View::from(resources.collect::<Named>()))
    }

    #[test]
    fn changes_are_the_new_the_gone_and_the_changed() {
        let old = view(&[
            (ResourceType::Cluster, "a", "1"),
            (ResourceType::Cluster, "b", "1"),
            (ResourceType::Route, "r", "1"),
        ]);
        let new = view(&[
            (ResourceType::Cluster, "b", "2"),
            (ResourceType::Cluster, "c", "1"),
            (ResourceType::Route, "r", "1"),
            (ResourceType::Route, "s", "1"),
        ]);
        let memo = Memo::default();
        let changes = memo.between(&old, &new);
        let named: Vec<_> = changes.iter().map(|(kind, name)| (*kind, &**name)).collect();
        let expected = [
            (ResourceType::Cluster, "a"),
            (ResourceType::Cluster, "b"),
            (ResourceType::Cluster, "c"),
            (ResourceType::Route, "s"),
        ];
        assert_eq!(named, expected);
        assert!(Arc::ptr_eq(&changes, &memo.between(&old, &new)), "computed twice");
        assert!(memo.between(&new, &new).is_empty());
    }

    #[test]
    fn one_step_is_known_and_several_are_found() {
        let first = view(&[(ResourceType::Route, "r", "1")]);
        let next = |earlier: &Arc<View>, resources| View::after(earlier, view(resources).resources.clone());
        let second = next(&first, &[(ResourceType::Route, "r", "2")]);
        let third = next(&second, &[(ResourceType::Route, "r", "2"), (ResourceType::Route, "s", "1")]);
        assert!(Arc::ptr_eq(
            &third,
            &next(&third, &[(ResourceType::Route, "r", "2"), (ResourceType::Route, "s", "1")])
        ));
        let memo = Memo::default();
        let names = |old, new| -> Vec<String> {
            memo.between(old, new).iter().map(|(_, name)| name.to_string()).collect()
        };
        assert_eq!(names(&first, &second), ["r"]);
        assert_eq!(names(&second, &third), ["s"]);
        assert_eq!(lock(&memo.0).pairs.len(), 0, "a step was computed again");
        assert_eq!(names(&first, &third), ["r", "s"]);
        assert_eq!(names(&third, &second), ["s"]);
        assert_eq!(lock(&memo.0).pairs.len(), 2);
    }
}
