//! The two annotations in which conversions carry what a version has no field for.
//!
//! Both are JSON. A value in another form than this module writes counts as absent, as every client can write an
//! annotation. Neither can add to what an object allows; `conversion` ensures that, not this file, which only reads
//! and writes them.

use std::collections::{BTreeMap, BTreeSet};

use super::outer::{Map, Value, element};
use serde::{Deserialize, Serialize};

/// Name of the annotation with the values that narrow the visible fields and have no field in this version: a map
/// from the name of a piece to its value.
pub const NARROWED_BY: &str = "smidge.mesh/narrowed-by";

/// Name of the annotation with the form in which the object was written at each version, where that is not the
/// version's plain form: a map from the version to an [`OriginalForm`]. A version shows its own form, so its entry is
/// in the other versions' annotations only.
pub const WRITTEN_AS: &str = "smidge.mesh/written-as";

/// Maximum size of all annotations of an object together, their names included, in bytes: the limit of Kubernetes.
const ROOM: usize = 256 * 1024;

/// Maximum size of the forms, in bytes, so that they do not use up the space for annotations.
const MOST_FORM: usize = 128 * 1024;

/// Form in which a version expresses the content. Nothing in it changes what the object means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct OriginalForm {
    /// Place of a slot, if it is not the place that the version has for it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, String>,
    /// Pieces that were written as a field although the version has none.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub shown: BTreeSet<String>,
    /// Places that have a value although the slot's own place has one, too, and that therefore do not count.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ignored: BTreeSet<String>,
    /// Backends by Service, with the weight as written, where it is not a whole number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<(String, serde_json::Value)>,
    /// All fields as they were written, where the rest of the form does not reproduce them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Map>,
}

/// Forms by version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Forms(BTreeMap<String, OriginalForm>);

impl Forms {
    pub fn set(&mut self, version: &str, form: OriginalForm) {
        self.0.remove(version);
        if form != OriginalForm::default() {
            self.0.insert(version.to_owned(), form);
        }
    }

    pub fn remove(&mut self, version: &str) -> Option<OriginalForm> {
        self.0.remove(version)
    }

    /// Drops the texts, which only a conversion needs.
    pub fn forget_text(&mut self) {
        self.0.values_mut().for_each(|form| form.text = None);
        self.0.retain(|_, form| *form != OriginalForm::default());
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &OriginalForm)> {
        self.0.iter().map(|(version, form)| (version.as_str(), form))
    }

    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

/// Takes both annotations out of an object. The map of annotations is removed with the last one.
pub(super) fn take(object: &mut Map) -> (Forms, Map) {
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return Default::default() };
    let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else { return Default::default() };
    let mut text = |name: &str| match annotations.remove(name) {
        Some(text) => text.as_string(),
        None => None,
    };
    let (forms, narrowing) = (text(WRITTEN_AS), text(NARROWED_BY));
    if annotations.is_empty() && (forms.is_some() || narrowing.is_some()) {
        metadata.remove("annotations");
    }
    let forms = forms.map(|text| Forms::parse(&text)).unwrap_or_default();
    let narrowing = narrowing.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    (forms, narrowing)
}

/// Returns the maximum size of the value of one of these annotations, in bytes, beside the other annotations of the
/// object.
pub(super) fn room(object: &Map) -> usize {
    let metadata = object.get("metadata").and_then(Value::as_object);
    let annotations = metadata.and_then(|metadata| metadata.get("annotations"));
    let all = annotations.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    let others: usize =
        all.map(|(name, value)| name.len() + value.as_string().map_or(0, |text| text.len())).sum();
    ROOM.saturating_sub(others + NARROWED_BY.len())
}

/// Prints what narrows in the form of its annotation.
pub(super) fn narrowing_text(narrowing: &Map) -> String {
    element(narrowing)
}

/// Writes both annotations into an object, if they are not empty. The caller ensures that what narrows has room.
pub(super) fn write(object: &mut Map, forms: &Forms, narrowing: &Map) {
    if !narrowing.is_empty() {
        add(object, NARROWED_BY, &narrowing_text(narrowing));
    }
    if let Some(text) = fitting(forms, room(object).min(MOST_FORM)) {
        add(object, WRITTEN_AS, &text);
    }
}

/// Prints the forms: complete if they fit, else without the texts, else none.
fn fitting(forms: &Forms, room: usize) -> Option<String> {
    let text = |forms: &Forms| {
        let text = serde_json::to_string(forms).ok()?;
        (text.len() <= room).then_some(text)
    };
    if forms.0.is_empty() {
        return None;
    }
    text(forms).or_else(|| {
        let mut less = forms.clone();
        less.forget_text();
        text(&less).filter(|_| !less.0.is_empty())
    })
}

fn add(object: &mut Map, name: &str, text: &str) {
    let mut metadata = object.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut annotations = metadata.get("annotations").and_then(Value::as_object).cloned().unwrap_or_default();
    annotations.insert(name, Value::string(text));
    metadata.insert("annotations", Value::Object(annotations));
    object.insert("metadata", Value::Object(metadata));
}
