//! Turns the API server's watch events into edits of `Inputs`: one task a kind, all feeding one channel.
//!
//! Started by `runtime`; consumed by `publish`, which owns the `Inputs` that the edits change. Holds no state of its
//! own but the list in progress, and judges nothing: an object that cannot be read is passed on as unreadable.

mod lenient_list;
mod metrics;

use std::sync::Arc;

use futures::StreamExt;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use smidge_mesh::id::ClusterId;
use tokio::sync::mpsc;
use tracing::{debug, warn};

pub use metrics::{Metrics, OfKind};

use super::{Edit, Scope};
use crate::{
    inputs::{Inputs, Key, Objects},
    kinds::{Change, Watched},
};

/// Field of `Inputs` that has the objects of one kind.
pub type Field<K> = fn(&mut Inputs) -> &mut Objects<K>;

/// A kind to watch.
pub struct Kind<K> {
    /// Cluster that is watched.
    pub cluster: ClusterId,
    /// Name of the kind, as in `TrafficSplit`.
    pub name: &'static str,
    /// Field for its objects.
    pub field: Field<K>,
    /// Removes the fields that are not used, so that they are not kept in memory.
    pub trim: fn(&mut K),
    /// Receives every change before it becomes an edit.
    pub on_event: EventHandler<K>,
    /// Counts what the watch receives.
    pub metrics: OfKind,
}

/// Handler of events that cannot wait for the next snapshot.
pub type EventHandler<K> = Box<dyn Fn(ObjectEvent<'_, K>) + Send + Sync>;

/// Event that an [`EventHandler`] receives.
pub enum ObjectEvent<'a, K> {
    /// All objects that exist.
    All(&'a mut dyn Iterator<Item = (&'a Key, &'a Arc<K>)>),
    /// This object is new or has changed.
    Put(&'a Key, &'a Arc<K>),
    /// This object is gone, or can no longer be read.
    Gone(&'a Key),
}

/// Watches one kind in all namespaces until the receiver is dropped. An absent CRD is a complete, empty list.
pub async fn watch<K: Watched>(client: Client, kind: Kind<K>, edits: mpsc::Sender<Edit>) {
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let mut events = watcher::watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut listing = Vec::new();
    let metrics = &kind.metrics;
    while let Some(event) = events.next().await {
        let edit = match event {
            Ok(Event::Init) => {
                listing.clear();
                None
            }
            Ok(Event::InitApply(object)) => {
                listing.push(read(&kind, object));
                None
            }
            Ok(Event::InitDone) => {
                metrics.listed();
                Some(replace(&kind, std::mem::take(&mut listing)))
            }
            Ok(Event::Apply(object)) => {
                metrics.changed();
                Some(put(&kind, read(&kind, object)))
            }
            Ok(Event::Delete(object)) => {
                metrics.changed();
                Some(remove(&kind, key(&object)))
            }
            Err(error) if is_absent(&error) => {
                debug!(kind = kind.name, "kind not installed");
                metrics.listed();
                Some(absent(&kind))
            }
            Err(error) if is_unreadable(&error) => {
                warn!(kind = kind.name, %error, "failed to decode list, listing objects one by one");
                let listed = listed_leniently(&kind, lenient_list::list(&client).await);
                if listed.is_some() {
                    metrics.listed();
                } else {
                    metrics.failed();
                }
                listed
            }
            Err(error) => {
                // The watcher retries with backoff and lists again; the objects that were read before stay in effect
                // meanwhile.
                warn!(kind = kind.name, %error, "failed to watch");
                metrics.failed();
                None
            }
        };
        if let Some(edit) = edit
            && edits.send(edit).await.is_err()
        {
            return;
        }
    }
}

/// An object that was read, or the reason why it was not.
struct Read<K> {
    key: Key,
    object: Result<Arc<K>, String>,
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn read<K>(kind: &Kind<K>, object: DeserializeGuard<K>) -> Read<K>
where
    K: Resource<DynamicType = ()>,
{
    let key = key(&object);
    keyed(kind, key, object.0.map_err(|invalid| invalid.error))
}

fn keyed<K>(kind: &Kind<K>, key: Key, object: Result<K, String>) -> Read<K>
where
    K: Resource<DynamicType = ()>,
{
    let object = object.map(|mut object| {
        object.meta_mut().managed_fields = None;
        (kind.trim)(&mut object);
        Arc::new(object)
    });
    Read { key, object }
}

fn replace<K: Watched>(kind: &Kind<K>, listed: Vec<Read<K>>) -> Edit {
    let (cluster, field, name) = (kind.cluster.clone(), kind.field, kind.name);
    let mut readable = listed.iter().filter_map(|read| Some((&read.key, read.object.as_ref().ok()?)));
    (kind.on_event)(ObjectEvent::All(&mut readable));
    let apply = move |inputs: &mut Inputs| {
        inputs.absent_kinds.remove(&definition::<K>());
        inputs.unreadable.retain(|(kind, _), _| kind != name);
        field(inputs).clear();
        for read in listed {
            keep(inputs, field, name, read);
        }
        Change::Semantic
    };
    Edit { cluster, scope: Scope::Kind(name), apply: Box::new(apply), completes: Some(name) }
}

/// Builds an edit from a list that was read object by object. The watcher continues to retry, so the next such list is
/// read at its next failure.
fn listed_leniently<K: Watched>(
    kind: &Kind<K>,
    listed: Result<Vec<lenient_list::Listed<K>>, lenient_list::Error>,
) -> Option<Edit> {
    let listed =
        listed.inspect_err(|error| warn!(kind = kind.name, %error, "failed to list one by one")).ok()?;
    let read = |lenient_list::Listed { metadata, object }| {
        let key = (metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default());
        keyed(kind, key, object)
    };
    Some(replace(kind, listed.into_iter().map(read).collect()))
}

fn put<K: Watched>(kind: &Kind<K>, read: Read<K>) -> Edit {
    let (cluster, field, name) = (kind.cluster.clone(), kind.field, kind.name);
    match &read.object {
        Ok(object) => (kind.on_event)(ObjectEvent::Put(&read.key, object)),
        Err(_) => (kind.on_event)(ObjectEvent::Gone(&read.key)),
    }
    let scope = Scope::object(name, read.key.clone());
    let apply = Box::new(move |inputs: &mut Inputs| keep(inputs, field, name, read));
    Edit { cluster, scope, apply, completes: None }
}

fn keep<K: Watched>(inputs: &mut Inputs, field: Field<K>, name: &'static str, read: Read<K>) -> Change {
    let Read { key, object } = read;
    match object {
        Ok(object) => {
            inputs.unreadable.remove(&(name.to_owned(), key.clone()));
            let before = field(inputs).insert(key, Arc::clone(&object).into());
            before.map_or(Change::Semantic, |before| object.compare(&before))
        }
        Err(error) => {
            // The object read before is not the present one: the object has no effect until it can be read.
            field(inputs).remove(&key);
            inputs.unreadable.insert((name.to_owned(), key), error);
            Change::Semantic
        }
    }
}

fn remove<K: Watched>(kind: &Kind<K>, key: Key) -> Edit {
    let (cluster, field, name) = (kind.cluster.clone(), kind.field, kind.name);
    (kind.on_event)(ObjectEvent::Gone(&key));
    let scope = Scope::object(name, key.clone());
    let apply = move |inputs: &mut Inputs| {
        field(inputs).remove(&key);
        inputs.unreadable.remove(&(name.to_owned(), key));
        Change::Semantic
    };
    Edit { cluster, scope, apply: Box::new(apply), completes: None }
}

fn absent<K: Watched>(kind: &Kind<K>) -> Edit {
    let (cluster, field, name) = (kind.cluster.clone(), kind.field, kind.name);
    (kind.on_event)(ObjectEvent::All(&mut std::iter::empty()));
    let apply = move |inputs: &mut Inputs| {
        field(inputs).clear();
        inputs.absent_kinds.insert(definition::<K>());
        Change::Semantic
    };
    Edit { cluster, scope: Scope::Kind(name), apply: Box::new(apply), completes: Some(name) }
}

/// Returns the full name of a kind's definition, as in `trafficsplits.split.smi-spec.io`.
fn definition<K: Resource<DynamicType = ()>>() -> String {
    format!("{}.{}", K::plural(&()), K::group(&()))
}

fn is_absent(error: &watcher::Error) -> bool {
    matches!(cause(error), Some(kube::Error::Api(status)) if status.code == 404)
}

/// Returns true if the API server has answered, but the client's parser refuses the answer.
fn is_unreadable(error: &watcher::Error) -> bool {
    matches!(cause(error), Some(kube::Error::SerdeError(_)))
}

fn cause(error: &watcher::Error) -> Option<&kube::Error> {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => Some(error),
        _ => None,
    }
}
