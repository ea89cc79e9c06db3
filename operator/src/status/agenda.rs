//! Which objects are to be judged again when, without anything else happening to them.
//!
//! Used by `judge`. Pure: time is counted from anywhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::finding::ObjectRef;

/// One time for each object, in order.
#[derive(Debug, Default)]
pub(super) struct RequeueQueue {
    times: BTreeMap<ObjectRef, Duration>,
    queue: BTreeSet<(Duration, ObjectRef)>,
}

impl RequeueQueue {
    /// The object is to be judged again at this time, and at no other; never without one.
    pub fn set(&mut self, object: &ObjectRef, at: Option<Duration>) {
        if let Some(before) = self.times.remove(object) {
            self.queue.remove(&(before, object.clone()));
        }
        if let Some(at) = at {
            self.times.insert(object.clone(), at);
            self.queue.insert((at, object.clone()));
        }
    }

    /// The object is to be judged again at this time, if not before.
    pub fn requeue_by(&mut self, object: &ObjectRef, at: Duration) {
        if self.times.get(object).is_none_or(|present| at < *present) {
            self.set(object, Some(at));
        }
    }

    /// Takes out the objects whose time has come.
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

    /// The next time.
    pub fn first(&self) -> Option<Duration> {
        self.queue.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_comes_up_once_at_the_time_that_was_said_last() {
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
