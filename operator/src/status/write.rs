//! Writes one status: through the API server, by server-side apply, so that conditions of other managers on the same
//! object are kept; or, without an API server, into the inputs.
//!
//! Called by `status_loop`, which declares no more of a writer than [`StatusWriter`]. An object that is gone, or was
//! replaced by another one of the same name, gets no status.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::json;
use smidge_crds::{
    object::{Kind, Object},
    status::Status,
};
use smidge_mesh::id::ClusterId;
use tokio::{sync::mpsc, time::timeout};
use tracing::warn;

use crate::{
    finding::ObjectRef,
    inputs::{Inputs, Key},
    kinds::{self, Change, References, Row, Visitor, Watched},
    report::{self, api_resource},
    source::{Edit, Scope},
};

/// Field manager of the status.
const MANAGER: &str = "smidge-status";
/// Time limit of a request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Place where statuses are written.
pub trait StatusWriter: Send + Sync + 'static {
    /// Writes `status` to the object with this `uid`.
    fn write(
        &self,
        object: &ObjectRef,
        uid: &str,
        status: &Status,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Tells the owner of the object that proxies refuse it.
    fn refused(&self, object: &ObjectRef, uid: &str, words: &str) -> impl Future<Output = ()> + Send;
}

/// Errors of writing a status.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The object does not exist any more.
    #[error("{object} is gone")]
    Gone {
        /// The object.
        object: ObjectRef,
    },
    /// The API server refused the write.
    #[error("failed to write the status of {object}")]
    Refused {
        /// The object.
        object: ObjectRef,
        /// Error of the API server.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("failed to write the status of {object} in time")]
    Timeout {
        /// The object.
        object: ObjectRef,
    },
}

/// The objects of the API server.
impl StatusWriter for Client {
    async fn write(&self, object: &ObjectRef, uid: &str, status: &Status) -> Result<(), WriteError> {
        let gone = || WriteError::Gone { object: object.clone() };
        let resource = api_resource(&object.kind).ok_or_else(gone)?;
        // Another object of the same name is not the one that was judged.
        let metadata = if uid.is_empty() {
            json!({"name": object.name})
        } else {
            json!({"name": object.name, "uid": uid})
        };
        let body = json!({
            "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "status": status,
        });
        let api: Api<DynamicObject> = if object.namespace.is_empty() {
            Api::all_with(self.clone(), &resource)
        } else {
            Api::namespaced_with(self.clone(), &object.namespace, &resource)
        };
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&body);
        match timeout(REQUEST_TIMEOUT, api.patch_status(&object.name, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Err(gone()),
            Ok(Err(source)) => Err(WriteError::Refused { object: object.clone(), source: Box::new(source) }),
            Err(_) => Err(WriteError::Timeout { object: object.clone() }),
        }
    }

    async fn refused(&self, object: &ObjectRef, uid: &str, words: &str) {
        report::refused(self, object, uid, words).await;
    }
}

/// The objects in the inputs of a control plane without an API server.
#[derive(Debug)]
pub struct InInputs {
    /// The cluster of the objects.
    pub cluster: ClusterId,
    /// Receives the edits.
    pub edits: mpsc::Sender<Edit>,
}

impl StatusWriter for InInputs {
    async fn write(&self, object: &ObjectRef, _uid: &str, status: &Status) -> Result<(), WriteError> {
        let gone = || WriteError::Gone { object: object.clone() };
        let kind = smidge_crds::KINDS.iter().find(|row| row.kind == object.kind).ok_or_else(gone)?.kind;
        let key = (object.namespace.clone(), object.name.clone());
        let scope = Scope::object(kind, key.clone());
        let status = status.clone();
        let apply = move |inputs: &mut Inputs| {
            kinds::visit(&mut SetStatus { inputs, kind, key: &key, status: &status });
            Change::StatusOnly
        };
        let edit = Edit { cluster: self.cluster.clone(), scope, apply: Box::new(apply), completes: None };
        self.edits.send(edit).await.map_err(|_| gone())
    }

    async fn refused(&self, object: &ObjectRef, _uid: &str, words: &str) {
        warn!(%object, "proxies reject the object: {words}");
    }
}

/// Sets the status of one object, if it exists.
struct SetStatus<'a> {
    inputs: &'a mut Inputs,
    kind: &'static str,
    key: &'a Key,
    status: &'a Status,
}

impl Visitor for SetStatus<'_> {
    fn kind<K: Watched>(&mut self, _: &Row<K>) {}

    fn custom<Spec: Kind>(&mut self, row: &Row<Object<Spec>>, _: References<Spec>) {
        if row.name != self.kind {
            return;
        }
        let list = (row.objects_mut)(self.inputs);
        if let Some(object) = list.get(self.key) {
            let next = Object { status: Some(self.status.clone()), ..Object::clone(object) };
            list.insert(self.key.clone(), next.into());
        }
    }
}
