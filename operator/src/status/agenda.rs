//! Queue of the objects that are to be judged again at a given time, even if nothing about them changes.
//!
//! Used by `judge`. Pure: time is counted from an arbitrary start.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::finding::ObjectRef;

/// Queue with at most one time for each object, in order of time.
#[derive(Debug, Default)]
pub(super) struct RequeueQueue {
    times: BTreeMap<ObjectRef, Duration>,
    queue: BTreeSet<(Duration, ObjectRef)>,
}

impl RequeueQueue {
    /// Sets the only time at which the object is to be judged again; `None` removes it from the queue.
    pub fn set(&mut self, object: &ObjectRef, at: Option<Duration>) {
        if let Some(before) = self.times.remove(object) {
            self.queue.remove(&(before, object.clone()));
        }
        if let Some(at) = at {
            self.times.insert(object.clone(), at);
            self.queue.insert((at, object.clone()));
        }
    }

    /// Makes sure that the object is judged again at this time at the latest.
    pub fn requeue_by(&mut self, object: &ObjectRef, at: Duration) {
        if self.times.get(object).is_none_or(|present| at < *present) {
            self.set(object, Some(at));
        }
    }

    /// Removes and returns the objects that are due.
    pub fn take(&mut self, now: Duration) -> Vec<ObjectRef> {
        let mut due = Vec::new();
        while self.first().is_some_and(|at| at <= now)
            && let Some((_, object)) = self.queue.pop_first()
        {
            self.times.remove(&object);
            due.push(object);
        }
        due
    }

    /// Returns the earliest time in the queue.
    pub fn first(&self) -> Option<Duration> {
        self.queue.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_comes_up_once_at_the_time_that_was_set_last() {
        let object = |name: &str| ObjectRef::new("TCPRoute", "shop", name);
        let (one, two) = (object("one"), object("two"));
        let mut agenda = RequeueQueue::default();
        agenda.set(&one, Some(Duration::from_secs(1)));
        agenda.set(&two, Some(Duration::from_secs(2)));
        agenda.set(&one, Some(Duration::from_secs(3)));
        assert_eq!(agenda.first(), Some(Duration::from_secs(2)));
        assert_eq!(agenda.take(Duration::from_secs(2)), [two]);
        assert!(agenda.take(Duration::from_secs(2)).is_empty());
        agenda.requeue_by(&one, Duration::from_secs(4));
        assert_eq!(agenda.first(), Some(Duration::from_secs(3)));
        agenda.set(&one, None);
        assert_eq!(agenda.first(), None);
    }
}
