//! Converts an object of an SMI kind from one API version to another, as the API server asks for it.
//!
//! Pure, on values as they stand on the wire: the API server's and the offline tools' objects go the same way. Judges
//! no object; what it does not understand it leaves alone.

use serde_json::Value;

use crate::{access, config, specs, split};

/// Why an object cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The field does not have the shape that every Kubernetes object has.
    #[error("cannot convert {object}: {field} is {found}: expected {expected}")]
    Shape {
        /// The object, by kind, namespace and name as far as they can be read.
        object: String,
        /// The field.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// One of the versions is not served, or the kind is none of ours.
    #[error("cannot convert {object}: {version} of it is not served")]
    NotServed {
        /// The object, by kind, namespace and name as far as they can be read.
        object: String,
        /// The API group and version.
        version: String,
    },
}

/// The versions of a kind that are served, newest first; none if the kind is none of ours.
pub fn served(group: &str, kind: &str) -> &'static [&'static str] {
    match (group, kind) {
        (access::GROUP, "TrafficTarget") => &["v1alpha4", "v1alpha3"],
        (split::GROUP, "TrafficSplit") => &["v1alpha4", "v1alpha2"],
        (access::GROUP, "IdentityBinding") | (specs::GROUP, "HTTPRouteGroup" | "TCPRoute" | "UDPRoute") => {
            &["v1alpha4"]
        }
        (config::GROUP, "MeshConfig") => &["v1alpha1"],
        _ => &[],
    }
}

/// The object at the API version `to`, for example `split.smi-spec.io/v1alpha2`.
pub fn convert(object: &Value, to: &str) -> Result<Value, Error> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let kind = text("kind");
    for version in [text("apiVersion"), to] {
        let (group, name) = version.split_once('/').unwrap_or_default();
        if !served(group, kind).contains(&name) {
            return Err(Error::NotServed { object: kind.to_owned(), version: version.to_owned() });
        }
    }
    let mut converted = object.clone();
    if let Some(version) = converted.get_mut("apiVersion") {
        *version = to.into();
    }
    Ok(converted)
}

/// The object at the version that is stored and that the hub types read.
pub fn to_hub(object: &Value) -> Result<Value, Error> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    let hub = served(group, text("kind")).first().map_or_else(String::new, |hub| format!("{group}/{hub}"));
    convert(object, &hub)
}
