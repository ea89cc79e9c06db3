//! Fields that narrow an object and that not every version has.
//!
//! A version without the field hides it in the annotation [`NARROWED_BY`](super::NARROWED_BY), bound to the visible
//! element that it narrows: one field of the object, or an element of a list. It is restored wherever that element
//! has no such field itself, so a client of such a version can neither lose nor see it. `kinds` has the tables.

use super::{
    outer::{Map, Value, elements},
    place::{get, get_mut, put, take},
    records,
};

/// Field that narrows an object.
#[derive(Debug)]
pub(crate) struct NarrowingField {
    /// The name in the annotation and in [`OriginalForm::shown`](super::annotations::OriginalForm::shown).
    pub name: &'static str,
    /// The versions without the field.
    pub hidden_at: &'static [&'static str],
    /// The location of the field in the hub.
    pub whereabouts: FieldLocation,
}

/// Location of a field in the hub.
#[derive(Debug)]
pub(crate) enum FieldLocation {
    /// At a path, in a map that is created if necessary.
    Field(&'static str),
    /// At a path, in a map that must exist: without it there is nothing to narrow.
    FieldOf(&'static str, &'static str),
    /// In each element of a list.
    Elements {
        /// The list.
        list: &'static str,
        /// The field that distinguishes elements.
        key: &'static str,
        /// The field that is the piece.
        field: &'static str,
    },
}

impl NarrowingField {
    pub fn is_hidden_at(&self, version: &str) -> bool {
        self.hidden_at.contains(&version)
    }

    /// Returns true if the hub's content has the field.
    pub fn is_in(&self, content: &Map) -> bool {
        match &self.whereabouts {
            FieldLocation::Field(path) | FieldLocation::FieldOf(_, path) => get(content, path).is_some(),
            FieldLocation::Elements { list, field, .. } => {
                let Some(list) = get(content, list) else { return false };
                let mut is_in = false;
                elements(list, |element| {
                    is_in = is_in || Map::of(element).is_some_and(|element| element.contains_key(field));
                });
                is_in
            }
        }
    }

    /// Takes the field out of the content.
    pub fn hide(&self, content: &mut Map) -> Option<Value> {
        match &self.whereabouts {
            FieldLocation::Field(path) | FieldLocation::FieldOf(_, path) => take(content, path),
            FieldLocation::Elements { list, key, field } => {
                records::take(get_mut(content, list)?, key, field)
            }
        }
    }

    /// Restores what [`hide`](Self::hide) took, where no other value is in its place.
    pub fn restore(&self, content: &mut Map, hidden: &Value) {
        match &self.whereabouts {
            FieldLocation::Field(path) => {
                let has_room = |(inside, _): (&str, &str)| {
                    get(content, inside).is_none_or(|value| value.is_object() || value.is_null())
                };
                if path.rsplit_once('.').is_none_or(has_room) {
                    fill(content, path, hidden);
                }
            }
            FieldLocation::FieldOf(inside, path) => {
                if get(content, inside).is_some_and(Value::is_object) {
                    fill(content, path, hidden);
                }
            }
            FieldLocation::Elements { list, key, field } => {
                if let Some(list) = get_mut(content, list).filter(|list| list.is_list()) {
                    records::put_back(list, key, field, hidden);
                }
            }
        }
    }
}

fn fill(content: &mut Map, path: &str, hidden: &Value) {
    if get(content, path).is_none_or(Value::is_null) {
        put(content, path, hidden.clone());
    }
}
