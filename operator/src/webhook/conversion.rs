//! Turns a ConversionReview into its answer: the same objects, in the version that was asked for.
//!
//! Pure. What a version can say, and how the rest travels, is `smidge_crds::conversion`'s; here is only what the API
//! server demands of the answer: as many objects in the same order, and of their metadata nothing changed but labels
//! and annotations. Needs nothing that the operator learns while it runs, so it answers from the first moment: the
//! operator's own lists may wait for it.

use serde_json::{Map, Value};
use smidge_crds::conversion;

use super::review::{self, Conversion, Error, Read};
use crate::finding::in_short;

/// The answer to a review. One object that cannot be converted fails all of it, as the API server has no use for a part.
pub fn answer(body: &[u8]) -> Result<Value, Error> {
    let Conversion { uid, desired_api_version: wanted, objects } = match review::conversion(body)? {
        Read::Whole(request) => request,
        Read::Envelope(Conversion { uid, .. }, error) => {
            let message = format!("an object cannot be read: {error}; hint: nest its fields less deeply");
            return Ok(review::not_converted(&uid, &message));
        }
    };
    let converted: Result<Vec<Value>, String> =
        objects.iter().map(|object| convert(object, &wanted)).collect();
    Ok(match converted {
        Ok(objects) => review::converted(&uid, objects),
        Err(message) => review::not_converted(&uid, &message),
    })
}

fn convert(object: &Value, wanted: &str) -> Result<Value, String> {
    match conversion::convert(object, wanted) {
        Ok(mut converted) => {
            keep_metadata(object, &mut converted);
            Ok(converted)
        }
        // Names and versions are the user's own text.
        Err(error) => Err(in_short(format!(
            "{} at {} cannot become {wanted}: {error}; hint: correct it by way of the version that it was written in, \
             or delete it",
            name(object),
            text(object, "/apiVersion"),
        ))),
    }
}

/// The API server refuses a conversion that changes anything else of the metadata.
fn keep_metadata(object: &Value, converted: &mut Value) {
    let mut metadata = object.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let made = converted.get_mut("metadata").map(Value::take).unwrap_or_default();
    let mut made = match made {
        Value::Object(made) => made,
        _ => Map::new(),
    };
    for field in ["labels", "annotations"] {
        match made.remove(field) {
            Some(value) => drop(metadata.insert(field.to_owned(), value)),
            None => drop(metadata.remove(field)),
        }
    }
    if let Some(converted) = converted.as_object_mut() {
        converted.insert("metadata".to_owned(), Value::Object(metadata));
    }
}

fn name(object: &Value) -> String {
    let (kind, namespace, name) =
        (text(object, "/kind"), text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
