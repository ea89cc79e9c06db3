//! Reference from a part of the mesh to the object of configuration that it was made from.
//!
//! Pure. Set by lowering, read by `provenance` to attribute resources to objects. Knows no kind: a TrafficTarget and an
//! object of any other front end are alike.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// An object by its kind and its name. A copy costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRef {
    /// The kind, for example `TrafficTarget`.
    pub kind: Arc<str>,
    /// The name, as `namespace/name`.
    pub name: Arc<str>,
}

impl SourceRef {
    /// The object `namespace/name` of `kind`.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.into(), name: format!("{namespace}/{name}").into() }
    }
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

impl Serialize for SourceRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
