//! Starts a watch for each kind.
//!
//! Used by `runtime` at the start. The kinds are those of `kinds`; `trim` decides which parts of pods are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use futures::future::BoxFuture;

use k8s_openapi::{Resource as _, api::core::v1::Pod};
use kube::Client;
use smidge_mesh::id::ClusterId;
use tokio::sync::mpsc;

use crate::{
    auth::pods::Pods,
    inputs::{Inputs, Key, Objects},
    kinds::{self, Row, Visitor, Watched},
    runtime::trim,
    source::{
        Edit,
        kubernetes::{EventHandler, Kind, Metrics, ObjectEvent, watch},
    },
};

/// Pods by name, for the authenticator, which cannot wait for a snapshot.
type Store = Arc<RwLock<BTreeMap<Key, Arc<Pod>>>>;

/// The watches that were started.
pub struct Watches {
    /// The kinds, all of which must be read before anything is served.
    pub kinds: BTreeSet<&'static str>,
    /// The pods, in the form that the authenticator uses.
    pub pods: Arc<Pods>,
}

/// Spawns one watch a kind.
pub fn spawn(
    cluster: &ClusterId,
    client: &Client,
    (edits, metrics): (&mpsc::Sender<Edit>, &Metrics),
    spawn: impl FnMut(String, BoxFuture<'static, ()>),
) -> Watches {
    let store = Store::default();
    let found = Arc::clone(&store);
    let lookup = move |namespace: &str, name: &str| {
        let store = found.read().unwrap_or_else(PoisonError::into_inner);
        store.get(&(namespace.to_owned(), name.to_owned())).cloned()
    };
    let pods = Arc::new(Pods::new(Box::new(lookup), client.clone()));
    let mut spawner = Spawner { cluster, client, edits, metrics, spawn, names: BTreeSet::new() };
    kinds::visit(&mut spawner);
    spawner.watch(
        Pod::KIND,
        |inputs| &mut inputs.pods,
        trim::pod,
        Box::new(follow(store, Arc::clone(&pods))),
    );
    Watches { kinds: spawner.names, pods }
}

struct Spawner<'a, F> {
    cluster: &'a ClusterId,
    client: &'a Client,
    edits: &'a mpsc::Sender<Edit>,
    metrics: &'a Metrics,
    spawn: F,
    names: BTreeSet<&'static str>,
}

impl<F: FnMut(String, BoxFuture<'static, ()>)> Spawner<'_, F> {
    fn watch<K: Watched>(
        &mut self,
        name: &'static str,
        field: fn(&mut Inputs) -> &mut Objects<K>,
        trim: fn(&mut K),
        on_event: EventHandler<K>,
    ) {
        let (cluster, metrics) = (self.cluster.clone(), self.metrics.of(name));
        let kind = Kind { cluster, name, field, trim, on_event, metrics };
        let watch = watch(self.client.clone(), kind, self.edits.clone());
        (self.spawn)(format!("watch {name}"), Box::pin(watch));
        self.names.insert(name);
    }
}

impl<F: FnMut(String, BoxFuture<'static, ()>)> Visitor for Spawner<'_, F> {
    /// Watches every kind but pods, and keeps its objects unchanged. Pods are trimmed and followed by `spawn`.
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        if row.name != Pod::KIND {
            self.watch(row.name, row.objects_mut, |_| (), Box::new(|_| ()));
        }
    }
}

/// Keeps the store up to date, and notifies those that wait for the end of a pod.
fn follow(store: Store, pods: Arc<Pods>) -> impl Fn(ObjectEvent<'_, Pod>) + Send + Sync {
    move |event| {
        // Every change is one insertion, removal or assignment, so a thread that panics leaves the store consistent.
        let mut stored = store.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            ObjectEvent::All(all) => {
                *stored = all.map(|(key, pod)| (key.clone(), Arc::clone(pod))).collect();
                drop(stored);
                pods.relisted();
            }
            ObjectEvent::Put(key, pod) => {
                stored.insert(key.clone(), Arc::clone(pod));
                drop(stored);
                pods.changed(&key.0, &key.1);
            }
            ObjectEvent::Gone(key) => {
                stored.remove(key);
                drop(stored);
                pods.changed(&key.0, &key.1);
            }
        }
    }
}
