//! Reads YAML as kubectl does, and prints it so that kubectl reads the same.
//!
//! kubectl follows YAML 1.1 for scalars: `0400` is 256, `yes` and `on` are booleans, and names of fields that look like
//! numbers or booleans become text after that. A number without a fraction is an integer, however it is written: JSON
//! has no other kind. Does not split a text into documents: `document` does.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DoubleQuoted, Error, SerializeError};

/// Numbers from this on, and from its negative on, may not be exact as a floating-point number.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a text with one document.
pub(super) fn read(text: &str) -> Result<Value, Error> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options::<Node>(text, options).map(|Node(value)| value)
}

/// Prints a value as one document.
pub fn print(value: &Value) -> Result<String, SerializeError> {
    serde_saphyr::to_string(&Printed(value))
}

/// A value as read.
struct Node(Value);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor).map(Self)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        #[allow(clippy::cast_possible_truncation, reason = "whole, and in the range of exact numbers")]
        if value.fract() == 0.0 && value.abs() < EXACT {
            return Ok((value as i64).into());
        }
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that JSON does not have"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Node(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((Name(name), Node(value))) = entries.next_entry()? {
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// The name of a field: scalars that are no text become text after they were read.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(NodeVisitor)? {
            Value::String(name) => Ok(Self(name)),
            Value::Bool(value) => Ok(Self(value.to_string())),
            Value::Number(value) => Ok(Self(value.to_string())),
            Value::Null => Err(de::Error::custom("null where text is expected")),
            Value::Array(_) | Value::Object(_) => {
                Err(de::Error::custom("a list or an object where the name of a field is expected"))
            }
        }
    }
}

/// A value to print.
struct Printed<'v>(&'v Value);

impl Serialize for Printed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) if is_like_number(text) => DoubleQuoted(text).serialize(serializer),
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&Printed(item)))?;
                list.end()
            }
            Value::Object(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (name, value) in entries {
                    if is_like_number(name) {
                        map.serialize_entry(&DoubleQuoted(name), &Printed(value))?;
                    } else {
                        map.serialize_entry(name, &Printed(value))?;
                    }
                }
                map.end()
            }
            scalar => scalar.serialize(serializer),
        }
    }
}

/// Returns true for texts that YAML 1.1 could read as a number; the printer itself knows those of YAML 1.2.
fn is_like_number(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit() || ['+', '-', '.'].contains(&first))
        && text.chars().all(|letter| letter.is_ascii_hexdigit() || "xXoO_.+-".contains(letter))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        let text = format!("a: {text}\n");
        read(&text).unwrap_or_else(|error| panic!("{text}: {error}"))["a"].take()
    }

    /// The right sides are what kubectl's reader, sigs.k8s.io/yaml v1.6.0, makes of the left ones.
    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        for (text, expected) in [
            ("0400", json!(256)),
            ("0o400", json!(256)),
            ("-0400", json!(-256)),
            ("00", json!(0)),
            ("08", json!(8)),
            ("09.5", json!(9.5)),
            ("0400.0", json!(400)),
            ("0x1F", json!(31)),
            ("0X1F", json!(31)),
            ("0O17", json!(15)),
            ("0b101", json!(5)),
            ("1_000", json!(1000)),
            ("+12", json!(12)),
            ("1e3", json!(1000)),
            ("1E5", json!(100_000)),
            ("-0", json!(0)),
            ("1.0", json!(1)),
            ("0.5", json!(0.5)),
            (".5", json!(0.5)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("yes", json!(true)),
            ("On", json!(true)),
            ("n", json!(false)),
            ("off", json!(false)),
            ("~", json!(null)),
            ("\"0400\"", json!("0400")),
            ("'yes'", json!("yes")),
            ("!!str 0400", json!("0400")),
            ("2001-01-01", json!("2001-01-01")),
            ("1.2.3", json!("1.2.3")),
            ("10m", json!("10m")),
            ("nan", json!("nan")),
            ("inf", json!("inf")),
            ("infinity", json!("infinity")),
            ("0400a", json!("0400a")),
            ("12:30", json!("12:30")),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn names_of_fields_are_text() {
        let read = read("on: 1\n0400: 2\n'08': 3\n\"yes\": 4\nport: 5\n").unwrap();
        assert_eq!(read, json!({"true": 1, "256": 2, "08": 3, "yes": 4, "port": 5}));
        assert!(super::read("~: 1\n").is_err());
        assert!(super::read("[a]: 1\n").is_err());
    }

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        let texts = [
            "0400",
            "0o400",
            "1_000",
            "1__0",
            "08",
            "1_",
            "0x3A_",
            "yes",
            "no",
            "on",
            "off",
            "y",
            "n",
            "Y",
            "true",
            "null",
            "~",
            "",
            "1e3",
            "-1",
            ".5",
            "+1",
            "2001-01-01",
            "10m",
            "a: b",
            "- a",
            "0b1",
            ".inf",
            ".nan",
            "<<",
            "=",
        ];
        let mut map: Map<String, Value> =
            texts.iter().map(|text| ((*text).to_owned(), json!(text))).collect();
        map.insert("numbers".to_owned(), json!([0, 256, -1, 0.5, 18_446_744_073_709_551_615_u64]));
        let printed = print(&Value::Object(map.clone())).unwrap();
        assert_eq!(read(&printed).unwrap(), Value::Object(map), "{printed}");
        assert!(printed.contains("\"1__0\": \"1__0\""), "{printed}");
        assert_eq!(print(&value("0400")).unwrap().trim(), "256");
    }
}
