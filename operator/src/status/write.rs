//! Writes one status through the API server, by server-side apply, so that conditions of others on the same object stay.
//!
//! Called by `keep`. An object that is gone, or is another one of the same name by now, needs no status of ours.

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

/// Whose fields these are.
const MANAGER: &str = "smidge-status";
/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a status does not stand where it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// There is no such object any more.
    #[error("{object} is gone")]
    Gone {
        /// The object.
        object: ObjectRef,
    },
    /// The API server did not take it.
    #[error("failed to write the status of {object}")]
    Refused {
        /// The object.
        object: ObjectRef,
        /// What the API server says.
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

/// Writes `status` onto the object with this `uid`.
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
    match timeout(PATIENCE, api.patch_status(&object.name, &params, &patch)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Err(gone()),
        Ok(Err(source)) => Err(WriteError::Refused { object: object.clone(), source: Box::new(source) }),
        Err(_) => Err(WriteError::Timeout { object: object.clone() }),
    }
}
