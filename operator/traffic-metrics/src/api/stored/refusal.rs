//! Turns an error of the API server about a MetricsPolicy into one about the TrafficMetrics that the user has sent.
//!
//! Pure. Used by the server. What the operator itself may not do, and what fails behind it, is not passed on.

use serde_json::Value;

use super::policy::translated;
use crate::api::status::{Cause, Status};

/// Maximum number of causes that are passed on.
const MAX_CAUSES: usize = 20;
/// Maximum length of a message that is passed on, in bytes.
const MAX_MESSAGE: usize = 4096;

/// Returns the error for the user.
pub fn of(code: u16, body: &Value, name: &str) -> Status {
    let text = |value: Option<&Value>| {
        let text = value.and_then(Value::as_str).unwrap_or_default();
        translated(text.get(..text.floor_char_boundary(MAX_MESSAGE)).unwrap_or_default())
    };
    let message = text(body.get("message"));
    let reason = text(body.get("reason"));
    // The name of the operator's ServiceAccount and its rights are none of the user's business.
    let is_own_right = code == 403 && message.contains("User \"") && message.contains("\" cannot ");
    if code == 401 || is_own_right {
        return Status::internal(
            "the operator may not write MetricsPolicies (hint: its ClusterRole must have create, update, patch and delete of \
             metricspolicies.smidge.mesh)",
        );
    }
    if !(400..500).contains(&code) || reason.is_empty() {
        return Status::unavailable("the API server did not take the MetricsPolicy; try again");
    }
    let causes = body.pointer("/details/causes").and_then(Value::as_array);
    let causes = causes.into_iter().flatten().take(MAX_CAUSES).map(|cause| Cause {
        reason: text(cause.get("reason")).into(),
        message: text(cause.get("message")),
        field: text(cause.get("field")),
    });
    Status::passed_on(code, reason, message, name, causes.collect())
}
