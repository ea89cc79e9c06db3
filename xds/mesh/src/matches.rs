//! Matches that grants and routes refer to together: all of an HTTPRouteGroup, or those of one name.
//!
//! A group that a hundred TrafficTargets use is held once, and becomes one predicate of each port (`envoy::rbac`). Part of
//! the model; says nothing about who refers to it.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

/// One match of an HTTPRouteGroup. All that it states must hold; what it leaves out holds always.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HttpMatch {
    /// The match by group and name, `namespace/group/match`.
    pub name: String,
    /// The path without its query string.
    pub path: Option<PathRegex>,
    /// The methods; `None` is every method.
    pub methods: Option<BTreeSet<String>>,
    /// A regular expression over the whole value, by lower-case header name. `host` is written `:authority`.
    pub headers: BTreeMap<String, String>,
}

/// A regular expression over a path, anchored at the start, in the syntax that RE2 and the `regex` crate read alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PathRegex {
    /// The expression as the user wrote it.
    pub pattern: String,
    /// Whether the expression must reach the path's end.
    pub end: PathEnd,
}

/// How a path expression ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathEnd {
    /// Anything may follow (the specification's reading).
    Open,
    /// Nothing may follow.
    Closed,
}

/// A set of matches with a name. A copy costs nothing, and is compared with the original at no cost.
#[derive(Debug, Clone)]
pub struct Matches(Arc<Set>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Set {
    name: String,
    list: BTreeSet<Arc<HttpMatch>>,
}

impl Matches {
    /// The matches `list`, called `namespace/group`, or `namespace/group/match` for those of one name.
    pub fn new(name: impl Into<String>, list: impl IntoIterator<Item = Arc<HttpMatch>>) -> Self {
        Self(Arc::new(Set { name: name.into(), list: list.into_iter().collect() }))
    }

    /// `namespace/group`, or `namespace/group/match`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The matches, any of which is enough.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<HttpMatch>> {
        self.0.list.iter()
    }

    /// Whether there is none, so that nothing matches.
    pub fn is_empty(&self) -> bool {
        self.0.list.is_empty()
    }
}

impl PartialEq for Matches {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Matches {}

impl PartialOrd for Matches {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Matches {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

/// By name alone: a mesh lists the matches of all names once (`Mesh`).
impl Serialize for Matches {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The matches of a name, in full.
pub(super) struct Listed<'a>(pub &'a Matches);

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut listed = serializer.serialize_struct("Matches", 2)?;
        listed.serialize_field("name", self.0.name())?;
        listed.serialize_field("matches", &self.0.0.list)?;
        listed.end()
    }
}
