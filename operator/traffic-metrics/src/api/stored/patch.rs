//! Reads the body of a patch, and changes a TrafficMetrics as its author sees it.
//!
//! Pure. Used by the server, which sends the result to the API server as an update, or an applied part as such. A patch
//! can copy what it has copied, so its operations are bounded in number, and the object after each in size and depth.

use json_patch::PatchOperation;
use serde_json::Value;

use super::{
    call::{MAX_BODY, Stored},
    policy::Shown,
};
use crate::api::{query::shown, status::Status};

/// Maximum number of operations of a JSON patch.
const MAX_OPERATIONS: usize = 100;
/// Maximum depth of an object.
const MAX_DEPTH: usize = 100;
/// Maximum number of values of an object, each key and element counted.
const MAX_VALUES: usize = 10_000;

/// A change that a user has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The whole object.
    Whole(Value),
    /// A merge patch (RFC 7386).
    Merge(Value),
    /// A JSON patch (RFC 6902).
    Operations(Vec<PatchOperation>),
}

/// A patch that a user has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patch {
    /// A change.
    Change(Change),
    /// A part of an object that is applied.
    Applied(Value),
}

/// Reads JSON.
pub fn json(body: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("the body is not JSON: {error}")))
}

/// Reads the body of an object, which is JSON.
pub fn object(content_type: &str, body: &[u8]) -> Result<Value, Status> {
    match media(content_type) {
        "" | "application/json" => json(body),
        other => Err(Status::unsupported_media_type(&cut(other), "application/json", "")),
    }
}

/// Reads a patch.
pub fn read(content_type: &str, body: &[u8]) -> Result<Patch, Status> {
    let expected =
        "application/merge-patch+json, application/json-patch+json or application/apply-patch+yaml";
    match media(content_type) {
        "application/merge-patch+json" => Ok(Patch::Change(Change::Merge(json(body)?))),
        "application/json-patch+json" => {
            let operations: Vec<PatchOperation> = serde_json::from_slice(body)
                .map_err(|error| Status::bad_request(format!("the body is not a JSON patch: {error}")))?;
            if operations.len() > MAX_OPERATIONS {
                let message = format!(
                    "the patch has {} operations: expected at most {MAX_OPERATIONS}",
                    operations.len()
                );
                return Err(Status::bad_request(message));
            }
            Ok(Patch::Change(Change::Operations(operations)))
        }
        // kubectl and client libraries write it as JSON, which is YAML.
        "application/apply-patch+yaml" => json(body).map(Patch::Applied).map_err(|_| {
            Status::bad_request(
                "the body is not JSON: expected an applied patch in the form of JSON, which is YAML as well",
            )
        }),
        other @ "application/strategic-merge-patch+json" => {
            let hint = " (hint: kubectl patch --type=merge)";
            Err(Status::unsupported_media_type(other, expected, hint))
        }
        other => Err(Status::unsupported_media_type(&cut(other), expected, "")),
    }
}

/// Returns the type of a body without its parameters.
fn media(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Returns the object that a change makes of one.
pub fn change(policy: &Shown, change: &Change, request: &Stored) -> Result<Value, Status> {
    let mut object = policy.object(request);
    match change {
        Change::Whole(whole) => return Ok(whole.clone()),
        Change::Merge(patch) => json_patch::merge(&mut object, patch),
        Change::Operations(operations) => {
            for (number, operation) in operations.iter().enumerate() {
                // One after another: each at most doubles the object.
                json_patch::patch(&mut object, std::slice::from_ref(operation)).map_err(|error| {
                    let message = error.kind.to_string();
                    Status::invalid_patch(number, &shown(&message))
                })?;
                if !is_bounded(&object, MAX_DEPTH, &mut Size::default()) {
                    return Err(Status::too_large(MAX_BODY));
                }
            }
        }
    }
    if is_bounded(&object, MAX_DEPTH, &mut Size::default()) {
        Ok(object)
    } else {
        Err(Status::too_large(MAX_BODY))
    }
}

/// Number of values and of bytes of text.
#[derive(Debug, Default)]
struct Size {
    values: usize,
    bytes: usize,
}

/// Returns true if a value is within the bounds of depth, number of values and size.
fn is_bounded(value: &Value, depth: usize, size: &mut Size) -> bool {
    size.values += 1;
    let Some(depth) = depth.checked_sub(1) else { return false };
    let own = match value {
        Value::String(text) => {
            size.bytes += text.len();
            true
        }
        Value::Array(items) => items.iter().all(|item| is_bounded(item, depth, size)),
        Value::Object(fields) => fields.iter().all(|(key, value)| {
            size.bytes += key.len();
            is_bounded(value, depth, size)
        }),
        _ => true,
    };
    own && size.values <= MAX_VALUES && size.bytes <= MAX_BODY
}
