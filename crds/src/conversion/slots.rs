//! Moves fields that have different places in different versions.
//!
//! `kinds` has the tables. A user may write a slot in the place of another version; it is then understood, and the
//! form records the place. Does not read inside of the fields.

use super::{
    annotations::OriginalForm,
    outer::{Map, Value},
    place::{get, put, take},
};

/// Field with all places that it has, or had, in some version.
#[derive(Debug)]
pub(crate) struct MovedField {
    /// The name in [`OriginalForm::places`].
    pub name: &'static str,
    /// The places: the hub's, then the others.
    pub places: &'static [&'static str],
    /// The versions that have the field in the second place.
    pub second_at: &'static [&'static str],
    /// The map that must exist for the slot to be read, if the slot is inside of one in the hub.
    pub inside: Option<&'static str>,
}

impl MovedField {
    /// Returns the place in the hub.
    pub fn hub(&self) -> &'static str {
        self.places.first().copied().unwrap_or_default()
    }

    /// Returns the place at a version.
    pub fn native(&self, version: &str) -> &'static str {
        let index = usize::from(self.second_at.contains(&version));
        self.places.get(index).copied().unwrap_or_default()
    }

    /// Returns the place as a user of the version writes it: while a slot inside of another one is moved, the outer
    /// one is at the hub's place.
    pub fn name_at(&self, version: &str) -> &'static str {
        let native = self.native(version);
        let is_flat = self.inside.is_some() && version == "v1alpha1";
        native.strip_prefix("spec.").filter(|_| is_flat).unwrap_or(native)
    }

    /// Moves the slot to the hub's place.
    pub fn read(&self, version: &str, content: &mut Map, form: &mut OriginalForm) {
        if let Some(inside) = self.inside
            && !get(content, inside).is_some_and(Value::is_object)
        {
            return;
        }
        let native = self.native(version);
        let others = self.places.iter().copied().filter(|place| *place != native);
        let mut found: Vec<(&str, Value)> = std::iter::once(native)
            .chain(others)
            .filter_map(|place| Some((place, take(content, place)?)))
            .collect();
        if found.is_empty() {
            return;
        }
        // A key without a value has no meaning, so it does not hide the value at another place.
        let winner = found.iter().position(|(_, value)| !value.is_null()).unwrap_or(0);
        let (place, value) = found.swap_remove(winner);
        if place != native {
            form.places.insert(self.name.into(), place.into());
        }
        let losers = found.iter().filter(|(_, value)| !value.is_null());
        form.ignored.extend(losers.map(|(place, _)| (*place).to_owned()));
        put(content, self.hub(), value);
    }

    /// Moves the slot to the place that the form records, or else to that of the version.
    pub fn print(&self, version: &str, content: &mut Map, form: &OriginalForm) {
        let of_form = form.places.get(self.name);
        let known = of_form.and_then(|place| self.places.iter().find(|known| *known == place));
        let place = known.copied().unwrap_or_else(|| self.native(version));
        if place != self.hub()
            && let Some(value) = take(content, self.hub())
        {
            put(content, place, value);
        }
    }
}
