//! Number as the user wrote it, which may be another value.
//!
//! Used where SMI requires a whole number (weights, ports). Decoding never fails, so that one invalid value does not
//! make the list that contains it unreadable; [`Number::as_i64`] reports whether the number is whole. Does not check
//! ranges: 0 and 70000 are numbers, and `lower` decides whether they are ports.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whole number, or any value that was written in its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// A whole number.
    Integer(i64),
    /// Any other value: a fraction, a number beyond 64 bits, a text.
    Other(Value),
}

impl Number {
    /// Returns the whole number, if the value is one. `50.0` is one, as JSON has only one kind of number; the text
    /// `"50"` is not, as the API server refuses it, too.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Other(value) => whole(value.as_f64()?),
        }
    }

    /// Returns the same as [`as_i64`](Self::as_i64), and accepts `"50"` as well: for fields that some versions have
    /// as text.
    pub fn as_text_or_i64(&self) -> Option<i64> {
        match self {
            Self::Other(Value::String(text)) => text.parse().ok(),
            number => number.as_i64(),
        }
    }
}

fn whole(number: f64) -> Option<i64> {
    // Beyond 2^53 a float no longer distinguishes one whole number from the next.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    // The range check makes the cast exact.
    #[allow(clippy::cast_possible_truncation)]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Other(value) => write!(f, "{value}"),
        }
    }
}

impl JsonSchema for Number {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number"})
    }
}

#[cfg(test)]
mod tests {
    use super::Number;

    fn read(json: &str) -> Number {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        for (json, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("70000", Some(70000)),
            ("50.0", Some(50)),
            ("1e3", Some(1000)),
            ("0.5", None),
            ("1e300", None),
            ("\"50\"", None),
            ("null", None),
            ("[1]", None),
        ] {
            assert_eq!(read(json).as_i64(), expected, "{json}");
        }
    }

    #[test]
    fn text_is_read_where_it_is_asked_for() {
        for (json, expected) in
            [("\"50\"", Some(50)), ("50", Some(50)), ("\"5x\"", None), ("\"\"", None), ("null", None)]
        {
            assert_eq!(read(json).as_text_or_i64(), expected, "{json}");
        }
    }

    #[test]
    fn what_was_written_survives() {
        for json in ["50", "0.5", "\"500m\"", "{\"a\":1}"] {
            assert_eq!(serde_json::to_string(&read(json)).unwrap(), json);
            assert_eq!(read(json).to_string(), json);
        }
    }
}
