//! Headers of a match, in either of the two shapes of SMI's history: a list of maps with one entry each (the published
//! definitions), or one map (the specification's later text).
//!
//! Keeps what was written, so that a reader sees a malformed value instead of a match that lost a condition and
//! allows more; [`Headers::entries`] turns either shape into pairs. Does not parse the expressions.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Header conditions of a match, as written. All of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(Value);

/// Error of headers in neither of the two shapes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedHeaders {
    /// The value is neither a map nor a list of maps.
    #[error("expected a map of header names to expressions, or a list of such maps, found {0}")]
    Shape(String),
    /// An expression is not a text.
    #[error("expected an expression for header {name}, found {value}")]
    Expression {
        /// The name of the header.
        name: String,
        /// The value in the place of the expression.
        value: String,
    },
}

impl Headers {
    /// Returns true if no headers were written.
    pub fn is_absent(&self) -> bool {
        self.0.is_null()
    }

    /// Returns the conditions as (name, expression), in the order of the list or, in a map, of the names. A name may
    /// occur more than once in a list. A bare number or boolean, which YAML makes of unquoted text, counts as text.
    pub fn entries(&self) -> Result<Vec<(String, String)>, MalformedHeaders> {
        match &self.0 {
            Value::Null => Ok(Vec::new()),
            Value::Object(map) => pairs(map).collect(),
            Value::Array(maps) => {
                let mut entries = Vec::new();
                for map in maps {
                    let Value::Object(map) = map else {
                        return Err(MalformedHeaders::Shape(map.to_string()));
                    };
                    for pair in pairs(map) {
                        entries.push(pair?);
                    }
                }
                Ok(entries)
            }
            other => Err(MalformedHeaders::Shape(other.to_string())),
        }
    }
}

fn pairs(map: &Map<String, Value>) -> impl Iterator<Item = Result<(String, String), MalformedHeaders>> + '_ {
    map.iter().map(|(name, value)| match value {
        Value::String(expression) => Ok((name.clone(), expression.clone())),
        Value::Number(_) | Value::Bool(_) => Ok((name.clone(), value.to_string())),
        _ => Err(MalformedHeaders::Expression { name: name.clone(), value: value.to_string() }),
    })
}

impl<Name: Into<String>, Expression: Into<String>> FromIterator<(Name, Expression)> for Headers {
    /// Writes the list shape, which every published definition accepts.
    fn from_iter<T: IntoIterator<Item = (Name, Expression)>>(entries: T) -> Self {
        let maps = entries.into_iter().map(|(name, expression)| {
            Value::Object(Map::from_iter([(name.into(), Value::String(expression.into()))]))
        });
        Self(Value::Array(maps.collect()))
    }
}

impl JsonSchema for Headers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Headers".into()
    }

    /// Returns a schema without a type, as a structural schema cannot express "a list or a map": the API server keeps
    /// either.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-preserve-unknown-fields": true})
    }
}

#[cfg(test)]
mod tests {
    use super::{Headers, MalformedHeaders};

    fn read(json: &str) -> Headers {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn both_shapes_have_the_same_content() {
        let expected = vec![("a".to_owned(), "1.*".to_owned()), ("b".to_owned(), "2".to_owned())];
        for json in [
            r#"[{"a":"1.*"},{"b":"2"}]"#,
            r#"[{"a":"1.*","b":"2"}]"#,
            r#"{"a":"1.*","b":"2"}"#,
            r#"{"b":2,"a":"1.*"}"#,
        ] {
            assert_eq!(read(json).entries().unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn a_name_may_repeat_in_a_list() {
        assert_eq!(read(r#"[{"a":"1"},{"a":"2"}]"#).entries().unwrap().len(), 2);
    }

    #[test]
    fn nothing_written_is_no_condition() {
        for json in ["null", "[]", "{}"] {
            assert_eq!(read(json).entries().unwrap(), Vec::new(), "{json}");
        }
    }

    #[test]
    fn what_is_neither_shape_is_an_error_and_never_no_condition() {
        for json in ["\"a\"", "[\"a\"]", "[null]", "true"] {
            assert!(matches!(read(json).entries(), Err(MalformedHeaders::Shape(_))), "{json}");
        }
        for json in [r#"{"a":null}"#, r#"[{"a":["1"]}]"#] {
            assert!(matches!(read(json).entries(), Err(MalformedHeaders::Expression { .. })), "{json}");
        }
    }

    #[test]
    fn what_is_built_reads_back() {
        let headers = Headers::from_iter([("a", "1"), ("a", "2")]);
        assert_eq!(serde_json::to_string(&headers).unwrap(), r#"[{"a":"1"},{"a":"2"}]"#);
    }
}
