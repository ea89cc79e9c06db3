//! Turns the body of an AdmissionReview (v1) into the body of its answer.
//!
//! Pure. Reads the pod as raw JSON, so that the patch fits what the API server has even where this program knows less of
//! a pod than it does.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::injector::{self, Decision, Settings};

/// Why a body is no review.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON of a review with a request.
    #[error("invalid AdmissionReview: {0}")]
    Body(#[from] serde_json::Error),
    /// A version of the format that is not served.
    #[error("invalid AdmissionReview: apiVersion {0:?}, expected \"admission.k8s.io/v1\"")]
    Version(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    namespace: String,
    kind: Kind,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    kind: String,
}

/// The answer to a review. What is no new pod is let pass.
pub fn answer(body: &[u8], settings: &Settings) -> Result<Value, Error> {
    let Review { api_version, request } = serde_json::from_slice(body)?;
    if api_version != "admission.k8s.io/v1" {
        return Err(Error::Version(api_version));
    }
    let Request { uid, operation, namespace, kind, object } = request;
    let mut response = json!({"uid": uid, "allowed": true});
    if operation == "CREATE" && kind.group.is_empty() && kind.kind == "Pod" {
        match injector::inject(&object, &namespace, settings) {
            Decision::Skip { warnings } => warn(&mut response, &warnings),
            Decision::Deny { message } => {
                response = json!({"uid": uid, "allowed": false, "status": {"code": 403, "message": message}});
            }
            Decision::Inject { pod, warnings } => {
                warn(&mut response, &warnings);
                let patch = serde_json::to_vec(&json_patch::diff(&object, &pod))?;
                set(&mut response, "patchType", json!("JSONPatch"));
                set(&mut response, "patch", json!(STANDARD.encode(patch)));
            }
        }
    }
    Ok(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

fn warn(response: &mut Value, warnings: &[String]) {
    if !warnings.is_empty() {
        set(response, "warnings", json!(warnings));
    }
}

fn set(response: &mut Value, name: &str, value: Value) {
    if let Some(fields) = response.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}
