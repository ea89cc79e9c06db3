//! Word from a closed set, as the user wrote it.
//!
//! The schema has the set; a word outside it (in an object that was stored under another version of the definitions)
//! still decodes, and the reader falls back to a safe value and reports it. Does not know which value is safe.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// Word of the set `T`, or one that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "is no text: expected one of the setting's words")]
pub enum Setting<T> {
    /// A word of the set.
    Known(T),
    /// Another word. The reader falls back to a safe value, with a finding.
    Unknown(String),
}

impl<T: Copy> Setting<T> {
    /// Returns the word, if it is in the set.
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
