//! JSON of which only the outer maps are parsed: as deep as conversions read, and no deeper.
//!
//! Everything else stays text, in the canonical form that equal values share (names in order, no blanks, the last of
//! equal names). When parsed, a map of one entry takes a hundred times the size of its text, and an object can have
//! hundreds of thousands of them; copies share what they have in common. Lists are text, which `elements` walks.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
    ser::{Error as _, SerializeMap as _},
};
use serde_json::value::RawValue;

/// Number of levels of nested maps that are parsed beside the outermost: `spec.matches.ports` is the longest path.
const DEPTH: u8 = 2;

/// JSON value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// The value as JSON.
    Text(Arc<str>),
    /// A map that was parsed.
    Object(Map),
}

/// Fields, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Map(Arc<Vec<(Arc<str>, Value)>>);

impl Value {
    /// Returns a text as a value.
    pub fn string(text: &str) -> Self {
        Self::Text(quoted(text).into())
    }

    /// Returns the list whose elements `text` has behind its bracket, each with a comma.
    pub fn list(mut text: String) -> Self {
        close(&mut text, ']');
        Self::Text(text.into())
    }

    pub fn is_null(&self) -> bool {
        self.starts("null")
    }

    pub fn is_object(&self) -> bool {
        matches!(self, Self::Object(_)) || self.starts("{")
    }

    pub fn is_list(&self) -> bool {
        self.starts("[")
    }

    /// Returns true if the value is an empty list.
    pub fn is_empty_list(&self) -> bool {
        matches!(self, Self::Text(text) if **text == *"[]")
    }

    pub fn as_object(&self) -> Option<&Map> {
        if let Self::Object(map) = self { Some(map) } else { None }
    }

    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        if let Self::Object(map) = self { Some(map) } else { None }
    }

    /// Returns the text, if the value is one.
    pub fn as_string(&self) -> Option<String> {
        if let Self::Text(text) = self { serde_json::from_str(text).ok() } else { None }
    }

    /// Prints the value as JSON.
    pub fn json(&self) -> Arc<str> {
        match self {
            Self::Text(text) => Arc::clone(text),
            Self::Object(_) => serde_json::to_string(self).unwrap_or_default().into(),
        }
    }

    fn starts(&self, with: &str) -> bool {
        matches!(self, Self::Text(text) if text.starts_with(with))
    }
}

impl PartialEq for Value {
    /// Compares the values, however deep they were parsed.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(one), Self::Object(other)) => one == other,
            (one, other) => one.json() == other.json(),
        }
    }
}

impl Map {
    /// Parses the fields of a map, each of them as text.
    pub fn of(text: &str) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Open(0).fields(&mut deserializer).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(self.find(name).ok()?).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let index = self.find(name).ok()?;
        Arc::make_mut(&mut self.0).get_mut(index).map(|(_, value)| value)
    }

    pub fn contains_key(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let index = self.find(name).ok()?;
        Some(Arc::make_mut(&mut self.0).remove(index).1)
    }

    pub fn insert(&mut self, name: &str, value: Value) {
        match self.find(name) {
            Ok(index) => {
                if let Some((_, old)) = Arc::make_mut(&mut self.0).get_mut(index) {
                    *old = value;
                }
            }
            Err(index) => Arc::make_mut(&mut self.0).insert(index, (name.into(), value)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Takes out the fields whose names `is_wanted` accepts.
    pub fn split_off(&mut self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let (wanted, kept) = self.0.iter().cloned().partition(|(name, _)| is_wanted(name));
        self.0 = Arc::new(kept);
        Self(Arc::new(wanted))
    }

    /// Inserts fields, replacing those of the same name.
    pub fn extend(&mut self, fields: &Self) {
        let all = std::mem::take(self).0;
        *self = all.iter().chain(fields.0.iter()).cloned().collect();
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(found, _)| (**found).cmp(name))
    }
}

impl FromIterator<(Arc<str>, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Value)>>(fields: I) -> Self {
        let mut fields: Vec<_> = fields.into_iter().collect();
        in_order(&mut fields);
        Self(Arc::new(fields))
    }
}

/// Sorts fields by name; of equal names the last one counts.
fn in_order<Name: Ord, Field>(fields: &mut Vec<(Name, Field)>) {
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields.dedup_by(|later, earlier| {
        let is_equal = later.0 == earlier.0;
        if is_equal {
            std::mem::swap(later, earlier);
        }
        is_equal
    });
    fields.shrink_to_fit();
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => {
                serde_json::from_str::<&RawValue>(text).map_err(S::Error::custom)?.serialize(serializer)
            }
            Self::Object(map) => map.serialize(serializer),
        }
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Open(DEPTH).fields(deserializer)
    }
}

/// Parses this number of levels of nested maps, and leaves the rest as text.
#[derive(Clone, Copy)]
struct Open(u8);

impl Open {
    fn fields<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<Map, D::Error> {
        // Parses this map, and so its fields with one level less.
        match deserializer.deserialize_any(Reader { depth: self.0, is_open: true })? {
            Value::Object(map) => Ok(map),
            Value::Text(_) => Err(D::Error::custom("expected a map")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Open {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Reader { depth: self.0.saturating_sub(1), is_open: self.0 > 0 })
    }
}

struct Reader {
    depth: u8,
    is_open: bool,
}

impl Reader {
    fn scalar<E>(read: impl FnOnce(Canonical<'_>) -> Result<(), E>) -> Result<Value, E> {
        let mut text = String::new();
        read(Canonical(&mut text))?;
        Ok(Value::Text(text.into()))
    }
}

macro_rules! scalars {
    ($($visit:ident($type:ty)),*) => {
        $(fn $visit<E: serde::de::Error>(self, value: $type) -> Result<Value, E> {
            Self::scalar(|text| text.$visit(value))
        })*
    };
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    scalars!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Self::scalar(|text| text.visit_unit())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Value, A::Error> {
        Self::scalar(|text| text.visit_seq(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        if !self.is_open {
            return Self::scalar(|text| text.visit_map(map));
        }
        let mut fields: Vec<(Arc<str>, Value)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            fields.push((name.into(), map.next_value_seed(Open(self.depth))?));
        }
        Ok(Value::Object(fields.into_iter().collect()))
    }
}

/// Writes a value in the canonical form that equal values share, while it is read.
struct Canonical<'t>(&'t mut String);

impl<'de> DeserializeSeed<'de> for Canonical<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! written {
    ($($visit:ident($type:ty)),*) => {
        $(fn $visit<E: serde::de::Error>(self, value: $type) -> Result<(), E> {
            self.0.push_str(&serde_json::to_string(&value).map_err(E::custom)?);
            Ok(())
        })*
    };
}

impl<'de> Visitor<'de> for Canonical<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    written!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.push_str("null");
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.push('[');
        while list.next_element_seed(Canonical(self.0))?.is_some() {
            self.0.push(',');
        }
        close(self.0, ']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut fields: Vec<(Box<str>, Box<str>)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let mut text = String::new();
            map.next_value_seed(Canonical(&mut text))?;
            fields.push((name.into(), text.into()));
        }
        in_order(&mut fields);
        self.0.push('{');
        for (name, text) in fields {
            self.0.extend([&*quoted(&name), ":", &*text, ","]);
        }
        close(self.0, '}');
        Ok(())
    }
}

/// Replaces the last comma by the bracket.
fn close(text: &mut String, bracket: char) {
    if text.ends_with(',') {
        text.pop();
    }
    text.push(bracket);
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Calls `each` with the text of every element of a list. A value that is not a list has no elements.
pub(crate) fn elements<'v>(list: &'v Value, each: impl FnMut(&'v str)) {
    let Value::Text(text) = list else { return };
    if list.is_list() {
        // The text was valid when it was read, so there is no error to report.
        let _ = serde_json::Deserializer::from_str(text).deserialize_seq(Walk(each));
    }
}

struct Walk<F>(F);

impl<'de, F: FnMut(&'de str)> Visitor<'de> for Walk<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element::<&RawValue>()? {
            (self.0)(element.get());
        }
        Ok(())
    }
}

/// Returns a list of what `change` returns for each element; the element is unchanged where that is `None`.
pub(crate) fn mapped(list: &Value, mut change: impl FnMut(&str) -> Option<String>) -> Value {
    let mut text = String::from("[");
    elements(list, |element| {
        text.push_str(change(element).as_deref().unwrap_or(element));
        text.push(',');
    });
    Value::list(text)
}

/// Prints the fields of an element.
pub(crate) fn element(fields: &Map) -> String {
    serde_json::to_string(fields).unwrap_or_default()
}
