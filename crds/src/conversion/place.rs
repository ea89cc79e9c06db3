//! Reads and writes fields of nested maps by their path (`spec.destination.port`).
//!
//! No path leads into a list; a value on the way that is not a map ends it.

use super::outer::{Map as Fields, Value};

/// Returns the value at `path`; `null` counts as a value.
pub(crate) fn get<'f>(fields: &'f Fields, path: &str) -> Option<&'f Value> {
    match path.split_once('.') {
        None => fields.get(path),
        Some((first, rest)) => get(fields.get(first)?.as_object()?, rest),
    }
}

/// Returns the value at `path` for changing; `null` counts as a value.
pub(crate) fn get_mut<'f>(fields: &'f mut Fields, path: &str) -> Option<&'f mut Value> {
    match path.split_once('.') {
        None => fields.get_mut(path),
        Some((first, rest)) => get_mut(fields.get_mut(first)?.as_object_mut()?, rest),
    }
}

/// Takes out the value at `path`.
pub(crate) fn take(fields: &mut Fields, path: &str) -> Option<Value> {
    match path.split_once('.') {
        None => fields.remove(path),
        Some((first, rest)) => take(fields.get_mut(first)?.as_object_mut()?, rest),
    }
}

/// Writes a value at `path`, and replaces what is there or in the way.
pub(crate) fn put(fields: &mut Fields, path: &str, value: Value) {
    let Some((first, rest)) = path.split_once('.') else {
        fields.insert(path, value);
        return;
    };
    if fields.get(first).is_none_or(|inner| inner.as_object().is_none()) {
        fields.insert(first, Value::Object(Fields::default()));
    }
    if let Some(inner) = fields.get_mut(first).and_then(Value::as_object_mut) {
        put(inner, rest, value);
    }
}

/// Removes the field at `path` if it has no content: `null` or an empty map.
pub(crate) fn tidy(fields: &mut Fields, path: &str) {
    let is_empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Fields::is_empty);
    if get(fields, path).is_some_and(is_empty) {
        take(fields, path);
    }
}
