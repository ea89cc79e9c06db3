//! Fields that stand in different places in different versions.
//!
//! `kinds` has the tables. A user may write a slot in the place of another version; it is then understood, and the
//! form remembers the place. Does not look into the fields.

use super::annotations::OriginalForm;
use super::outer::{Map, Value};
use super::place::{get, put, take};

/// A field with all places that it has, or had, in some version.
#[derive(Debug)]
pub(crate) struct MovedField {
    /// The name in [`OriginalForm::places`].
    pub name: &'static str,
    /// The places: the hub's, then the others.
    pub places: &'static [&'static str],
    /// Versions that have it in the second place.
    pub second_at: &'static [&'static str],
    /// The map that must exist for the slot to be read, if the hub has the slot inside of one.
    pub inside: Option<&'static str>,
}

impl MovedField {
    /// Where the hub has it.
    pub fn hub(&self) -> &'static str {
        self.places.first().copied().unwrap_or_default()
    }

    /// Where a version has it.
    pub fn native(&self, version: &str) -> &'static str {
        let index = usize::from(self.second_at.contains(&version));
        self.places.get(index).copied().unwrap_or_default()
    }

    /// The place as the version's users call it: while a slot inside of another one is moved, the outer one stands
    /// where the hub has it.
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
        // A bare key says nothing, so it does not hide what another place says.
        let winner = found.iter().position(|(_, value)| !value.is_null()).unwrap_or(0);
        let (place, value) = found.swap_remove(winner);
        if place != native {
            form.places.insert(self.name.into(), place.into());
        }
        let losers = found.iter().filter(|(_, value)| !value.is_null());
        form.ignored.extend(losers.map(|(place, _)| (*place).to_owned()));
        put(content, self.hub(), value);
    }

    /// Moves the slot to the place of the form, or else of the version.
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
