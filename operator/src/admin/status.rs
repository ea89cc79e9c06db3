//! Page with the status of every object that has one, as the API server would show it.
//!
//! Made from the last publication, for users of a control plane without an API server above all. Judges nothing.

use serde::{Deserialize, Serialize};
use smidge_crds::status::Status;

use crate::publish::Published;

/// An object with its status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectStatus {
    /// Kind of the object.
    pub kind: String,
    /// Namespace of the object; empty for one of the whole cluster.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Its status; none before it was judged.
    pub status: Option<Status>,
}

/// Returns the objects by kind, namespace and name.
pub fn of(published: &Published) -> Vec<ObjectStatus> {
    let own = published.objects.iter();
    own.map(|(object, known)| ObjectStatus {
        kind: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        status: known.status.clone(),
    })
    .collect()
}
