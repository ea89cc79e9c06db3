//! Reports the fields of an object that were written in the shape of another version than its own.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    annotations::{Forms, OriginalForm, WRITTEN_AS},
    kinds::OF_BACKENDS,
    pieces::{FieldLocation, NarrowingField},
};
use crate::kinds::Shape;

/// Field that was written in the shape of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mixed {
    /// The field is at `place`; the version has it at `expected`. It is understood.
    Moved {
        /// The place of the field.
        place: &'static str,
        /// The place that the version has for it.
        expected: &'static str,
    },
    /// The version has no such field. The field is understood.
    Newer {
        /// The field.
        place: &'static str,
    },
    /// The value at `place` does not count, as there is one at `expected`, too.
    Ignored {
        /// The place of the field.
        place: &'static str,
        /// The place of the value that counts.
        expected: &'static str,
    },
    /// The weights are not whole numbers, at a version that requires them. They are understood in proportion.
    Weights,
}

/// Returns the mixed fields of an object of the hub, each with the version at which it was written.
pub fn mixed(group: &str, kind: &str, metadata: &ObjectMeta) -> Vec<(&'static str, Mixed)> {
    let annotation = metadata.annotations.as_ref().and_then(|annotations| annotations.get(WRITTEN_AS));
    let (Some(text), Some(shape)) = (annotation, Shape::of(group, kind)) else { return Vec::new() };
    let mut all = Vec::new();
    for (version, form) in Forms::parse(text).iter() {
        if let Some(version) = super::served(group, kind).iter().find(|served| **served == version) {
            all.extend(of_form(shape, version, form).into_iter().map(|mixed| (*version, mixed)));
        }
    }
    all
}

fn of_form(shape: Shape, version: &str, form: &OriginalForm) -> Vec<Mixed> {
    let mut all = Vec::new();
    for slot in shape.slots() {
        let native = slot.native(version);
        let recorded = form.places.get(slot.name);
        let counts = recorded.and_then(|recorded| slot.places.iter().find(|place| *place == recorded));
        let counts = counts.copied().unwrap_or(native);
        let name = |place| if place == native { slot.name_at(version) } else { place };
        if counts != native {
            all.push(Mixed::Moved { place: counts, expected: name(native) });
        }
        let lost = slot.places.iter().copied();
        let lost = lost.filter(|place| *place != counts && form.ignored.contains(*place));
        all.extend(lost.map(|place| Mixed::Ignored { place: name(place), expected: name(counts) }));
    }
    if form.places.get("matches").is_some_and(|place| place == OF_BACKENDS) {
        all.push(Mixed::Moved { place: OF_BACKENDS, expected: "spec.matches" });
    }
    let is_shown = |piece: &&NarrowingField| piece.is_hidden_at(version) && form.shown.contains(piece.name);
    let shown: Vec<&'static str> = shape.pieces().iter().filter(is_shown).map(field).collect();
    // A field inside of another one is the more precise report.
    let has_inner = |outer: &str| {
        shown.iter().any(|inner| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.')))
    };
    let newer = shown.iter().copied().filter(|place| !has_inner(place));
    all.extend(newer.map(|place| Mixed::Newer { place }));
    if shape == Shape::Split && version != "v1alpha1" && !form.weights.is_empty() {
        all.push(Mixed::Weights);
    }
    all.sort();
    all.dedup();
    all
}

fn field(piece: &NarrowingField) -> &'static str {
    match piece.whereabouts {
        FieldLocation::Field(path) | FieldLocation::FieldOf(_, path) => path,
        FieldLocation::Elements { list, .. } => match list {
            "spec.sources" => "spec.sources[].group",
            "spec.matches" => "spec.matches[].headers",
            _ => OF_BACKENDS,
        },
    }
}
