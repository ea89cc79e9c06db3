//! Suggests the `apiVersion` of an object that has none.
//!
//! SMI's own documents print such objects. Nothing is assumed: the words are a hint for the author.

use serde_json::{Map, Value};
use smidge_crds::conversion;

/// Suggests the version of an SMI kind, by the shape of the object: the newest that has all fields in these places.
pub(super) fn hint(kind: &str, object: &Map<String, Value>) -> Option<String> {
    if matches!(kind, "TrafficMetrics" | "TrafficMetricsList") {
        return Some(
            "if SMI's is meant: it is an object of the API metrics.smi-spec.io, which API servers serve; here, write a MetricsPolicy"
                .to_owned(),
        );
    }
    let group = conversion::group(kind)?;
    let versions = conversion::served(group, kind);
    let fitting = versions.iter().find(|version| is_plain(group, kind, version, object));
    let (version, how) = match fitting {
        Some(version) => (version, "by its fields"),
        None => (versions.first()?, "as its newest version"),
    };
    Some(format!("if SMI's {kind} is meant, it is {group}/{version}, {how}"))
}

/// Returns true if an object has nothing in the shape of another version than this.
fn is_plain(group: &str, kind: &str, version: &str, object: &Map<String, Value>) -> bool {
    let mut object = object.clone();
    object.insert("apiVersion".to_owned(), format!("{group}/{version}").into());
    let metadata = conversion::to_hub(&Value::Object(object)).ok().and_then(|mut hub| {
        let metadata = hub.get_mut("metadata")?.take();
        serde_json::from_value(metadata).ok()
    });
    metadata.is_some_and(|metadata| conversion::mixed(group, kind, &metadata).is_empty())
}
