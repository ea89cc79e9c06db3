//! Turns a ConversionReview into its answer: the same objects, in the version that was asked for.
//!
//! Pure. What a version can say, and how the rest travels, is `smidge_crds::conversion`'s; here is only what the API
//! server demands of the answer: as many objects in the same order, and of their metadata nothing changed but labels
//! and annotations. Needs nothing that the operator learns while it runs, so it answers from the first moment: the
//! operator's own lists may wait for it.

use std::fmt;

use serde::{
    Deserializer as _,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};
use smidge_crds::conversion;

use super::review::{self, Conversion, Error};
use crate::finding::in_short;

/// The largest object that is converted. An API server stores 1.5 MiB unless its etcd was told otherwise; parsed, that is
/// a hundred times as much.
const LARGEST: usize = 2 << 20;

/// The answer to a review. One object that cannot be converted fails all of it, as the API server has no use for a part.
/// Of all objects one at a time is parsed: what is held beside the body is the text of the answer.
pub fn answer(body: &[u8]) -> Result<Vec<u8>, Error> {
    let Conversion { uid, desired_api_version: wanted, objects } = review::conversion(body)?;
    let mut each = Each { wanted: &wanted, list: vec![b'['], failure: None };
    let read = match objects {
        Some(objects) => serde_json::Deserializer::from_str(objects.get()).deserialize_seq(&mut each),
        None => Ok(()),
    };
    let Each { mut list, failure, .. } = each;
    if let Some(message) = failure {
        return review::not_converted(&uid, &message);
    }
    read?;
    list.push(b']');
    review::converted(&uid, serde_json::from_slice(&list)?)
}

/// Converts a list while it is read.
struct Each<'w> {
    wanted: &'w str,
    list: Vec<u8>,
    failure: Option<String>,
}

impl<'de> Visitor<'de> for &mut Each<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut objects: A) -> Result<(), A::Error> {
        while let Some(object) = objects.next_element::<&RawValue>()? {
            let converted = match convert(object.get(), self.wanted) {
                Ok(converted) => converted,
                Err(message) => {
                    self.failure = Some(message);
                    return Err(A::Error::custom("not converted"));
                }
            };
            if self.list.len() > 1 {
                self.list.push(b',');
            }
            serde_json::to_writer(&mut self.list, &converted).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

fn convert(text: &str, wanted: &str) -> Result<Value, String> {
    if text.len() > LARGEST {
        return Err(format!(
            "an object of {} bytes cannot be converted: expected at most {LARGEST}; hint: split it into several",
            text.len()
        ));
    }
    let object: Value = serde_json::from_str(text).map_err(|error| {
        in_short(format!("an object cannot be read: {error}; hint: nest its fields less deeply"))
    })?;
    let metadata = object.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let (named, version) = (name(&object), text_at(&object, "/apiVersion").to_owned());
    match conversion::convert_owned(object, wanted) {
        Ok(mut converted) => {
            keep_metadata(metadata, &mut converted);
            Ok(converted)
        }
        // Names and versions are the user's own text.
        Err(error) => Err(in_short(format!(
            "{named} at {version} cannot become {wanted}: {error}; hint: correct it by way of the version that it was \
             written in, or delete it"
        ))),
    }
}

/// The API server refuses a conversion that changes anything else of the metadata.
fn keep_metadata(mut metadata: Map<String, Value>, converted: &mut Value) {
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
        (text_at(object, "/kind"), text_at(object, "/metadata/namespace"), text_at(object, "/metadata/name"));
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

fn text_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
