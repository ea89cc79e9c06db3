//! Writes one status through the API server, by server-side apply, so that conditions of other managers on the same
//! object are kept.
//!
//! Called by `status_loop`. An object that is gone, or was replaced by another one of the same name, gets no status.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::json;
use smidge_crds::status::Status;
use tokio::time::timeout;

use crate::{finding::ObjectRef, report::api_resource};

/// Field manager of the status.
const MANAGER: &str = "smidge-status";
/// Time limit of a request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Errors of writing a status.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
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

/// Writes `status` to the object with this `uid`.
pub(super) async fn write(
    client: &Client,
    object: &ObjectRef,
    uid: &str,
    status: &Status,
) -> Result<(), WriteError> {
    let gone = || WriteError::Gone { object: object.clone() };
    let resource = api_resource(&object.kind).ok_or_else(gone)?;
    // Another object of the same name is not the one that was judged.
    let metadata =
        if uid.is_empty() { json!({"name": object.name}) } else { json!({"name": object.name, "uid": uid}) };
    let body = json!({
        "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "status": status,
    });
    let api: Api<DynamicObject> = if object.namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &object.namespace, &resource)
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
