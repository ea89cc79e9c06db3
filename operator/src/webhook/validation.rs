//! Turns the review of an object of the mesh into its verdict.
//!
//! Pure, but for reading the objects around it, which the caller does. An object that cannot be read is refused: lists
//! that contain it would fail in many clients.

use std::collections::BTreeSet;

use serde_json::Value;

use super::review::{self, Admission, Error, Read};
use crate::{
    admission::{Current, Review, words},
    finding::brief,
};

/// Answers a review. `current` returns the present objects of some namespaces. Admits an object that is neither new nor
/// changed.
pub fn answer(body: &[u8], current: impl FnOnce(&BTreeSet<String>) -> Current) -> Result<Value, Error> {
    let request = match review::admission(body)? {
        Read::Whole(request) => request,
        Read::Envelope(request, error) if is_write(&request.operation) => {
            let message = format!(
                "{} cannot be read: {}; hint: nest its fields less deeply, and write text as UTF-8",
                brief(&request.kind.kind),
                brief(&error.to_string()),
            );
            return Ok(review::deny(&request.uid, 422, "Invalid", &message, &[]));
        }
        Read::Envelope(request, _) => return Ok(review::allow(&request.uid, &[])),
    };
    let Admission { uid, operation, sub_resource: _, namespace, name, kind: _, object, old_object } = request;
    let old = old_object.filter(|_| operation == "UPDATE");
    let question = object
        .filter(|_| is_write(&operation))
        .and_then(|object| Review::new(&namespace, &name, &object, old.as_ref()));
    let Some(question) = question else { return Ok(review::allow(&uid, &[])) };
    let verdict = question.judge(&current(&question.namespaces()));
    let warnings = words::warnings(&question, &verdict);
    Ok(if verdict.refused.is_empty() {
        review::allow(&uid, &warnings)
    } else {
        review::deny(&uid, 422, "Invalid", &words::refusal(&question, &verdict), &warnings)
    })
}

/// Builds the answer to the review `uid` if there was no time or memory to judge the object.
pub fn unjudged(uid: &str) -> Value {
    review::allow(uid, &["Smidge had no time to judge the object; see its status".to_owned()])
}

fn is_write(operation: &str) -> bool {
    matches!(operation, "CREATE" | "UPDATE")
}
