//! A word from a closed set, as somebody wrote it.
//!
//! The schema knows the set; a word outside it (an object from the time of another version of the definitions) still
//! decodes, and the reader falls back to what is safe and says so. Does not know which word that is.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// A word of the set `T`, or one that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "is no text: expected one of the setting's words")]
pub enum Setting<T> {
    /// A word of the set.
    Known(T),
    /// Another word; the setting then counts as absent, and that is worth a finding.
    Unknown(String),
}

impl<T: Copy> Setting<T> {
    /// The word, if it is of the set.
    pub fn known(&self) -> Option<T> {
        match self {
            Self::Known(word) => Some(*word),
            Self::Unknown(_) => None,
        }
    }
}

impl<T> From<T> for Setting<T> {
    fn from(word: T) -> Self {
        Self::Known(word)
    }
}

impl<T: JsonSchema> JsonSchema for Setting<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
