//! Fuzz target of conversion: an object that can be converted to another version can be converted back.

use serde_json::Value;
use smidge_crds::conversion::{convert, served, to_hub};

/// Runs one input.
pub fn run(body: &[u8]) {
    let Ok(object) = serde_json::from_slice::<Value>(body) else { return };
    drop(to_hub(&object));
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let Some((group, version)) = text("apiVersion").split_once('/') else { return };
    let home = text("apiVersion");
    if !served(group, text("kind")).contains(&version) {
        return;
    }
    for other in served(group, text("kind")) {
        let other = format!("{group}/{other}");
        let Ok(there) = convert(&object, &other) else { continue };
        assert_eq!(there.get("apiVersion").and_then(Value::as_str), Some(other.as_str()));
        let back = convert(&there, home);
        assert!(back.is_ok(), "{object} becomes {there}, which cannot come back: {back:?}");
    }
}
