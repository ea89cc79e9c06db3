//! Checks that the pod of a token is alive, and notifies its streams when it no longer is.
//!
//! Called by `auth`, and by `runtime` for every change of a pod, after the store that `lookup` reads has it. A pod that
//! the store does not have is read from the API server before it is treated as unknown: the proxy may be faster than
//! the watch. A pod that is being deleted is still alive, as its proxy drains and serves until its last container ends.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::{sync::watch, time::timeout};

use super::{REVIEW_TIMEOUT, claims::Subject, reason::Reason};
use crate::lower::workload::has_ended;

/// Finds a pod by namespace and name in the store of the watch. It is called from within `changed` and `relisted`, so
/// callers of those must not hold a lock that it takes.
pub type Lookup = Box<dyn Fn(&str, &str) -> Option<Arc<Pod>> + Send + Sync>;

/// Pods of a cluster, and the streams that wait for their end.
pub struct Pods {
    lookup: Lookup,
    client: Client,
    waiting: Mutex<HashMap<(String, String), Waiting>>,
}

/// Streams of one pod: they hold receivers, and end when the sender is dropped.
struct Waiting {
    uid: String,
    alive: watch::Sender<()>,
}

impl Pods {
    /// Creates the set of pods that `lookup` finds, or else `client`.
    pub fn new(lookup: Lookup, client: Client) -> Self {
        Self { lookup, client, waiting: Mutex::default() }
    }

    /// Returns the pod of `subject`, if it is alive, and a future that completes when it no longer is.
    pub async fn find(&self, subject: &Subject) -> Result<(Arc<Pod>, BoxFuture<'static, ()>), Reason> {
        let Subject { namespace, pod: name, .. } = subject;
        let stored = (self.lookup)(namespace, name);
        let (pod, was_stored) = match stored {
            Some(pod) if judge(&pod, subject).is_ok() => (pod, true),
            // The store lags behind, or there is no such pod: the API server decides.
            _ => (Arc::new(self.ask(namespace, name).await?), false),
        };
        judge(&pod, subject)?;
        let gone = self.wait(namespace, name, &subject.uid);
        // The pod may have ended before `wait` registered it; then no further change is reported.
        if was_stored && (self.lookup)(namespace, name).is_none_or(|pod| judge(&pod, subject).is_err()) {
            self.changed(namespace, name);
            return Err(Reason::PodEnded);
        }
        Ok((pod, gone))
    }

    /// Ends the streams of a pod that is no longer alive. Called after the pod has changed or gone in the store.
    pub fn changed(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut waiting = self.waiting();
        if waiting.get(&key).is_some_and(|waiting| !self.lives(&key, waiting)) {
            waiting.remove(&key);
        }
    }

    /// Ends the streams of every pod that is no longer alive. Called after the store was filled again, as pods may have
    /// gone while the watch was broken.
    pub fn relisted(&self) {
        self.waiting().retain(|key, waiting| self.lives(key, waiting));
    }

    fn lives(&self, (namespace, name): &(String, String), waiting: &Waiting) -> bool {
        (self.lookup)(namespace, name).is_some_and(|pod| uid(&pod) == waiting.uid && !has_ended(&pod))
    }

    async fn ask(&self, namespace: &str, name: &str) -> Result<Pod, Reason> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match timeout(REVIEW_TIMEOUT, api.get_opt(name)).await {
            Ok(Ok(found)) => found.ok_or(Reason::PodUnknown),
            Err(_) => Err(Reason::Unavailable),
            Ok(Err(error)) => {
                tracing::warn!(%error, namespace, pod = name, "failed to get pod");
                Err(Reason::Unavailable)
            }
        }
    }

    /// Returns a future that completes when the pod ends. Only called for a pod that was seen alive, so an old token
    /// cannot end the streams of a new pod.
    fn wait(&self, namespace: &str, name: &str, uid: &str) -> BoxFuture<'static, ()> {
        let mut waiting = self.waiting();
        let new = || Waiting { uid: uid.to_owned(), alive: watch::Sender::new(()) };
        let entry = waiting.entry((namespace.to_owned(), name.to_owned())).or_insert_with(new);
        if entry.uid != uid {
            *entry = new();
        }
        let mut alive = entry.alive.subscribe();
        // Nothing is ever sent: this ends when the sender is dropped.
        async move { while alive.changed().await.is_ok() {} }.boxed()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<(String, String), Waiting>> {
        // Every change is one insertion or removal, so the map is consistent even after a panic of another thread.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pods").field("waiting", &self.waiting().len()).finish_non_exhaustive()
    }
}

/// Checks that `pod` is the pod of `subject`, and alive.
fn judge(pod: &Pod, subject: &Subject) -> Result<(), Reason> {
    if uid(pod) != subject.uid {
        return Err(Reason::UidMismatch);
    }
    // An empty name is the namespace's default account; the API server fills it in at admission.
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    if account != Some(subject.service_account.as_str()) {
        return Err(Reason::AccountMismatch);
    }
    if has_ended(pod) { Err(Reason::PodEnded) } else { Ok(()) }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}
