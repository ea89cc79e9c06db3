//! Turns the review of a new pod into the injector's decision as a JSON patch, and judges ephemeral containers that a pod is
//! to get.
//!
//! Pure. Reads the pod as raw JSON, so that the patch fits what the API server has even where this program knows less of
//! a pod than it does.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::review::{self, Admission, Error, Read};
use crate::injector::{self, Decision, Settings};

/// The answer to a review. What is no new pod is let pass.
pub fn answer(body: &[u8], settings: &Settings) -> Result<Value, Error> {
    let Admission { uid, operation, sub_resource, namespace, kind, object, .. } = match review::admission(body)? {
        Read::Whole(request) => request,
        Read::Envelope(_, error) => return Err(error.into()),
    };
    let is_pod = kind.group.is_empty() && kind.kind == "Pod";
    let object = object.unwrap_or_default();
    if is_pod && operation == "UPDATE" && sub_resource == "ephemeralcontainers" {
        return Ok(match injector::refuse_ephemeral(&object) {
            None => review::allow(&uid, &[]),
            Some(message) => review::deny(&uid, 403, "Forbidden", &message, &[]),
        });
    }
    if !is_pod || operation != "CREATE" || !sub_resource.is_empty() {
        return Ok(review::allow(&uid, &[]));
    }
    Ok(match injector::inject(&object, &namespace, Some(&uid), settings) {
        Decision::Skip { warnings } => review::allow(&uid, &warnings),
        Decision::Deny { message } => review::deny(&uid, 403, "Forbidden", &message, &[]),
        Decision::Inject { pod, warnings } => {
            let patch = serde_json::to_vec(&json_patch::diff(&object, &pod))?;
            review::patch(&uid, &warnings, STANDARD.encode(patch))
        }
    })
}
