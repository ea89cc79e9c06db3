//! Messages between the plugin and the agent: one line of JSON in each direction.
//!
//! Pure. The request's first byte carries the pod's network namespace as an open file, so that the agent opens no path
//! that another process names.

use serde::{Deserialize, Serialize};

use crate::redirect::request::MAX_LENGTH;

/// Maximum size of a message, in bytes.
pub const MAX_MESSAGE: usize = MAX_LENGTH + 2048;

/// Action of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Apply the rules.
    Apply,
    /// Find out whether they are applied.
    Check,
}

/// Request of the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The action.
    pub action: Action,
    /// The pod, for log lines.
    pub pod: String,
    /// The redirection, as in the pod's annotation.
    pub redirection: String,
}

/// Response of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The reason for which the action failed.
    #[serde(default)]
    pub error: Option<String>,
}

/// Returns a message as a line.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    // Neither has a key that is no text, or a number that is none.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}
