//! Sets of matches to which grants and routes refer: all matches of an HTTPRouteGroup, or those of one name.
//!
//! A group that a hundred TrafficTargets use is stored once, and becomes one predicate of each port (`envoy::rbac`).
//! Part of the model; does not contain the objects that refer to it.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

/// Match of an HTTPRouteGroup. All its conditions must hold; an absent condition always holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HttpMatch {
    /// The name of the match with its group, `namespace/group/match`.
    pub name: String,
    /// The condition on the path without its query string; `None` is every path.
    pub path: Option<PathRegex>,
    /// The methods; `None` is every method.
    pub methods: Option<BTreeSet<String>>,
    /// The regular expressions for header values, by header name in lower case. An expression must match the whole
    /// value. `host` is written `:authority`.
    pub headers: BTreeMap<String, String>,
}

/// Regular expression for a path, anchored at the start, in the syntax that RE2 and the `regex` crate have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PathRegex {
    /// The expression as the user wrote it.
    pub pattern: String,
    /// The end of the match.
    pub end: PathEnd,
}

/// End of the match of a path expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathEnd {
    /// Any text may follow (as the specification has it).
    Open,
    /// Nothing may follow.
    Closed,
}

/// Set of matches with a name. A copy is free, and so is its comparison with the original.
#[derive(Debug, Clone)]
pub struct Matches(Arc<Set>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Set {
    name: String,
    list: BTreeSet<Arc<HttpMatch>>,
}

impl Matches {
    /// Builds the set of `list`, with the name `namespace/group`, or `namespace/group/match` for the matches of one
    /// name.
    pub fn new(name: impl Into<String>, list: impl IntoIterator<Item = Arc<HttpMatch>>) -> Self {
        Self(Arc::new(Set { name: name.into(), list: list.into_iter().collect() }))
    }

    /// Returns the name: `namespace/group`, or `namespace/group/match`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Iterates over the matches, any of which is sufficient.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<HttpMatch>> {
        self.0.list.iter()
    }

    /// Returns true if there is no match, so that nothing matches.
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

/// Prints the name only: a mesh lists the matches of all names once (`Mesh`).
impl Serialize for Matches {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Set of matches that is printed in full.
pub(super) struct Listed<'a>(pub &'a Matches);

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut listed = serializer.serialize_struct("Matches", 2)?;
        listed.serialize_field("name", self.0.name())?;
        listed.serialize_field("matches", &self.0.0.list)?;
        listed.end()
    }
}
