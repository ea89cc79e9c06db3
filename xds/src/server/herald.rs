//! Tells each stream of its view when that has become another one, and wakes no other stream.
//!
//! Run by `server` next to the connections; read by `stream`. A snapshot then costs a look at each stream, and a wake-up
//! only of those that it changes something for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::Views;
use crate::{mesh::id::ProxyId, view::View};

/// The streams that are to be told.
#[derive(Debug, Default)]
pub(super) struct Herald(Mutex<BTreeMap<u64, Arc<Listener>>>);

#[derive(Debug)]
struct Listener {
    proxy: ProxyId,
    view: watch::Sender<Option<Arc<View>>>,
}

impl Listener {
    /// Looks up the view in whatever snapshot is the latest by the time that the channel is ours, so that of two who
    /// tell at the same time the later one is never the one who knows less.
    fn tell<S>(&self, views: &Views<S>) {
        self.view.send_if_modified(|told| {
            let snapshot = views.snapshots.borrow().clone();
            // A proxy that is no longer in the mesh keeps what it has: its stream ends with its workload.
            let view = snapshot.and_then(|snapshot| (views.view)(&snapshot, &self.proxy));
            let news = view.filter(|view| told.as_ref().is_none_or(|told| !Arc::ptr_eq(told, view)));
            let is_news = news.is_some();
            *told = news.or_else(|| told.take());
            is_news
        });
    }
}

impl Herald {
    /// The view of a stream's proxy, now and from now on, until the stream leaves.
    pub fn enter<S>(
        &self,
        stream: u64,
        proxy: &ProxyId,
        views: &Views<S>,
    ) -> watch::Receiver<Option<Arc<View>>> {
        let (view, receiver) = watch::channel(None);
        let listener = Arc::new(Listener { proxy: proxy.clone(), view });
        self.listeners().insert(stream, Arc::clone(&listener));
        listener.tell(views);
        receiver
    }

    /// Forgets a stream that has ended.
    pub fn leave(&self, stream: u64) {
        self.listeners().remove(&stream);
    }

    /// Tells of every snapshot, until there will be no more.
    pub async fn run<S>(&self, views: &Views<S>) {
        let mut snapshots = views.snapshots.clone();
        while snapshots.changed().await.is_ok() {
            // Copied, as a view may have to be made first, and streams come and go meanwhile.
            let listeners: Vec<_> = self.listeners().values().cloned().collect();
            for listener in listeners {
                listener.tell(views);
            }
        }
    }

    fn listeners(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Listener>>> {
        // A panic of another holder leaves plain data behind, which is as good as before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::id::ClusterId;

    type Snapshot = BTreeMap<ProxyId, Arc<View>>;

    fn proxy(instance: &str) -> ProxyId {
        ProxyId {
            cluster: ClusterId("local".to_owned()),
            namespace: "shop".to_owned(),
            instance: instance.to_owned(),
        }
    }

    #[tokio::test]
    async fn only_streams_whose_view_is_another_are_told() {
        let (snapshots, receiver) = watch::channel(None);
        let views = Views { snapshots: receiver, view: |all: &Snapshot, proxy| all.get(proxy).cloned() };
        let herald = Herald::default();
        let old = Arc::new(View::default());
        let publish = |views: [(&str, &Arc<View>); 2]| {
            let all = views.into_iter().map(|(name, view)| (proxy(name), Arc::clone(view)));
            snapshots.send_replace(Some(Arc::new(all.collect::<Snapshot>())))
        };
        publish([("one", &old), ("two", &old)]);
        let mut one = herald.enter(1, &proxy("one"), &views);
        let mut two = herald.enter(2, &proxy("two"), &views);
        assert!(one.borrow_and_update().is_some() && two.borrow_and_update().is_some());
        let new = Arc::new(View::default());
        let told = async {
            publish([("one", &old), ("two", &new)]);
            two.changed().await.unwrap();
            // The first one was looked at before the second.
            assert!(!one.has_changed().unwrap(), "was told of the view that it has");
            publish([("one", &old), ("three", &new)]);
            publish([("one", &new), ("three", &new)]);
            one.changed().await.unwrap();
            assert!(two.borrow().is_some(), "a proxy that is gone keeps its view");
            assert!(!two.has_changed().unwrap());
        };
        tokio::select! {
            () = told => {}
            () = herald.run(&views) => {}
        }
        herald.leave(1);
        assert!(one.changed().await.is_err(), "nobody tells a stream that has left");
    }
}
