//! Errors of the API, as clients of Kubernetes read them: `metav1.Status`.
//!
//! Pure. Made by `request`, `query` and `accept`, and by the server for what it refuses. A message has nothing of the
//! cluster that the request does not have itself.

use std::borrow::Cow;

use serde::Serialize;

use super::{
    GROUP,
    access::Access,
    resource::{Resource, STORED},
};

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    #[serde(rename = "status")]
    outcome: &'static str,
    message: String,
    reason: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<Details>>,
    /// The HTTP status.
    pub code: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Empty {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
    #[serde(skip_serializing_if = "is_zero")]
    retry_after_seconds: u32,
}

/// A field that is the cause of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldValueNotSupported`, or what the API server sends.
    pub reason: Cow<'static, str>,
    /// The value, what is expected, and a hint.
    pub message: String,
    /// Path of the field.
    pub field: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Delay after which a client tries again, in seconds.
const RETRY_AFTER: u32 = 1;

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: Empty {},
            outcome: "Failure",
            message: message.into(),
            reason: Cow::Borrowed(reason),
            details: None,
            code,
        }
    }

    fn of(mut self, plural: &'static str, name: Option<&str>) -> Self {
        let name = name.unwrap_or_default().to_owned();
        let details = Details { name, group: GROUP, kind: plural, ..Details::default() };
        self.details = Some(Box::new(details));
        self
    }

    fn again(mut self) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = RETRY_AFTER;
        self
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the delay after which the client may try again, in seconds.
    pub fn retry_after(&self) -> Option<u32> {
        self.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0)
    }

    /// There is no such path.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// There is no such object.
    pub fn no_such_object(resource: &Resource, name: &str) -> Self {
        let message = format!("{}.{GROUP} {name:?} not found", resource.plural);
        Self::new(404, "NotFound", message).of(resource.plural, Some(name))
    }

    /// The method is not one of reading.
    pub fn method_not_allowed() -> Self {
        let message = format!(
            "the server does not allow this method on the requested resource: expected GET (hint: an object is measured in \
             detail by a TrafficMetrics of the resource {STORED}, which can be written)"
        );
        Self::new(405, "MethodNotAllowed", message)
    }

    /// The resource that can be written does not have the method for this path.
    pub fn not_allowed_on_stored(expected: &str) -> Self {
        let message = format!("the server does not allow this method on {STORED}: expected {expected}");
        Self::new(405, "MethodNotAllowed", message)
    }

    /// The body is too large.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("the body is too large: expected at most {limit} bytes"),
        )
    }

    /// The body has a type that the server does not read.
    pub fn unsupported_media_type(found: &str, expected: &str, hint: &str) -> Self {
        let message = format!("the body has the type {found:?}: expected {expected}{hint}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// An operation of a JSON patch, counted from 0, cannot be done.
    pub fn invalid_patch(number: usize, reason: &str) -> Self {
        Self::new(422, "Invalid", format!("operation {number} of the patch cannot be done: {reason}"))
    }

    /// Fields of a TrafficMetrics have values that it cannot have.
    pub fn invalid(name: &str, causes: Vec<Cause>) -> Self {
        let fields: Vec<String> =
            causes.iter().map(|Cause { field, message, .. }| format!("{field}: {message}")).collect();
        let fields =
            if let [one] = fields.as_slice() { one.clone() } else { format!("[{}]", fields.join(", ")) };
        let message = format!("TrafficMetrics.{GROUP} {name:?} is invalid: {fields}");
        let mut status = Self::new(422, "Invalid", message).of(STORED, Some(name));
        status.details.get_or_insert_default().causes = causes;
        status
    }

    /// An error of the API server about an object that can be written.
    pub fn passed_on(code: u16, reason: String, message: String, name: &str, causes: Vec<Cause>) -> Self {
        let mut status = Self::new(code, "", message).of(STORED, Some(name));
        status.reason = Cow::Owned(reason);
        status.details.get_or_insert_default().causes = causes;
        status
    }

    /// The request is not understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The client was not authenticated by the API server.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// The user does not have the right.
    pub fn forbidden(user: &str, access: &Access<'_>) -> Self {
        let Access { plural, subresource, verb, namespace, name, .. } = *access;
        let slash = if subresource.is_empty() { "" } else { "/" };
        let scope = match namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_owned(),
        };
        let named = name.map_or_else(String::new, |name| format!(" {name:?}"));
        let message = format!(
            "{plural}.{GROUP}{named} is forbidden: User {user:?} cannot {verb} resource \
             \"{plural}{slash}{subresource}\" in API group {GROUP:?} {scope}"
        );
        Self::new(403, "Forbidden", message).of(plural, name)
    }

    /// The client accepts no form that the server has.
    pub fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, \
                       application/json;as=Table;v=v1;g=meta.k8s.io, \
                       application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
        Self::new(406, "NotAcceptable", message)
    }

    /// The list has changed since its first part was read.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The client, or all of them together, request too much.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(429, "TooManyRequests", message).again()
    }

    /// The server failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// Something that the server needs does not answer.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message).again()
    }

    /// The server does not have what is asked for, as it is set up.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(501, "NotImplemented", message)
    }

    /// The answer took too long.
    pub fn timeout() -> Self {
        Self::new(504, "Timeout", "the request took too long").again()
    }

    /// Returns the JSON text.
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
