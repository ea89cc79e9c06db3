//! Converts an object of an SMI kind from one API version to another, as the API server requests it.
//!
//! Pure, on values as they are on the wire: objects of the API server and of the offline tools take the same path.
//! Every conversion goes through the hub's content ([`kinds`] has the tables of the fields of each version), so that
//! n versions need n readings and n printings. Two annotations ([`annotations`]) carry what a version has no field
//! for: one narrows what is visible, the other keeps the original form only. What is too large for the first is
//! written as a field all the same. Does not validate objects: what it does not understand it leaves unchanged, and
//! whatever the values, the result is an object or an [`Error`]. The design is `docs/design/004-conversion.md`.

mod annotations;
mod kinds;
mod mixed;
mod outer;
mod pieces;
mod place;
mod read;
mod records;
mod slots;
mod weights;

use serde::Deserialize as _;
use serde_json::Value as Json;

pub(crate) use self::pieces::FieldLocation;
use self::pieces::NarrowingField;
use self::{
    annotations::{Forms, OriginalForm},
    outer::{Map, Value},
};
use crate::{
    KINDS,
    kinds::{KindInfo, Shape},
};

pub use self::annotations::{NARROWED_BY, WRITTEN_AS};
pub use self::mixed::{Mixed, mixed};
pub use self::read::ReadError;

/// Error of converting an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The field does not have the shape that every Kubernetes object has.
    #[error("cannot convert {object}: {field} is {found}: expected {expected}")]
    Shape {
        /// The object, by kind, namespace and name as far as they can be read.
        object: String,
        /// The field.
        field: &'static str,
        /// The type of the value that the field has.
        found: &'static str,
        /// The type that the field should have.
        expected: &'static str,
    },
    /// One of the versions is not served, or the kind is not one that this crate defines.
    #[error("cannot convert {object}: apiVersion {version:?} is not served: expected {expected}")]
    NotServed {
        /// The object, by kind, namespace and name as far as they can be read.
        object: String,
        /// The API group and version.
        version: String,
        /// The versions that are served.
        expected: String,
    },
}

/// Returns the served versions of a kind, newest first; the first one is stored. Empty if this crate does not define
/// the kind.
pub fn served(group: &str, kind: &str) -> &'static [&'static str] {
    KindInfo::find(group, kind).map_or(&[], |info| info.versions)
}

/// Returns the API group of a kind that this crate defines, for callers that know only the kind.
pub fn group(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|info| info.kind == kind).map(|info| info.group)
}

/// Returns the path at `version` of a field of the hub: `spec.rules[0]` of a `TrafficTarget` is `specs[0]` at v1alpha1.
pub fn field_at(kind: &str, version: &str, field: &str) -> String {
    let shape = group(kind).and_then(|group| Shape::of(group, kind));
    let found = shape.into_iter().flat_map(Shape::slots).find_map(|slot| {
        let rest = field.strip_prefix(slot.hub())?;
        let is_whole = rest.is_empty() || rest.starts_with(['.', '[']);
        is_whole.then(|| format!("{}{rest}", slot.name_at(version)))
    });
    found.unwrap_or_else(|| field.to_owned())
}

/// Returns the object at the API version `to`, for example `split.smi-spec.io/v1alpha2`.
pub fn convert(object: &Json, to: &str) -> Result<Json, Error> {
    let mut fields = fields(object)?;
    convert_fields(&mut fields, to)?;
    Ok(json(&fields))
}

/// Converts as [`convert`] does, from text to text. Takes memory of a few times the size of the text; an object that is
/// parsed in full takes up to a hundred times that size.
pub fn convert_text(object: &str, to: &str) -> Result<String, TextError> {
    let mut fields: Map = serde_json::from_str(object)?;
    convert_fields(&mut fields, to).map_err(|error| TextError::Conversion {
        object: name(&fields),
        version: text_of(&fields, "apiVersion"),
        error: Box::new(error),
    })?;
    Ok(serde_json::to_string(&fields)?)
}

/// Error of converting a text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The text is not an object that can be read.
    #[error("{0}")]
    Unreadable(#[from] serde_json::Error),
    /// The object cannot be converted.
    #[error("{error}")]
    Conversion {
        /// The object, by kind, namespace and name as far as they can be read.
        object: String,
        /// The API version of the object.
        version: String,
        /// The error of the conversion.
        error: Box<Error>,
    },
}

fn fields(object: &Json) -> Result<Map, Error> {
    Map::deserialize(object).map_err(|_: serde_json::Error| Error::Shape {
        object: "an object".into(),
        field: "it",
        found: what(&Value::Text(object.to_string().into())),
        expected: "a map",
    })
}

/// Turns fields into a value of `serde_json`. This cannot fail, as the text was read before.
fn json(fields: &Map) -> Json {
    serde_json::to_string(fields).and_then(|text| serde_json::from_str(&text)).unwrap_or_default()
}

fn convert_fields(fields: &mut Map, to: &str) -> Result<(), Error> {
    let from = text_of(fields, "apiVersion");
    let (group, from_version) = version(fields, &from)?;
    let (to_group, to_version) = version(fields, to)?;
    if group != to_group {
        return Err(not_served(fields, to, group));
    }
    if from_version == to_version {
        return Ok(());
    }
    check_metadata(fields)?;
    fields.insert("apiVersion", Value::string(to));
    if let Some(shape) = Shape::of(group, &kind(fields)) {
        let (content, forms) = read(shape, from_version, fields);
        write(shape, to_version, &content, forms, fields);
    }
    Ok(())
}

/// Returns the object at the stored version, with every field in the place that this version has for it, whatever
/// form it was written in: what the hub types read. (From [`convert`] the API server gets an object in the form in
/// which it was written.)
pub fn to_hub(object: &Json) -> Result<Json, Error> {
    let mut object = fields(object)?;
    let (api_version, kind) = (text_of(&object, "apiVersion"), kind(&object));
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let Some(hub) = served(group, &kind).first() else {
        return convert_fields(&mut object, &api_version).map(|()| json(&object));
    };
    convert_fields(&mut object, &format!("{group}/{hub}"))?;
    check_metadata(&object)?;
    understand_fields(group, &kind, hub, &mut object);
    Ok(json(&object))
}

/// Turns an object of the hub version, written in any shape, into what the hub types read. [`mixed`] still reports
/// what was mixed. A value that is not an object is unchanged, and the types refuse it.
pub(crate) fn understand(group: &str, kind: &str, hub: &str, object: &mut Json) {
    if Shape::of(group, kind).is_none() {
        return;
    }
    let Ok(mut fields) = fields(object) else { return };
    understand_fields(group, kind, hub, &mut fields);
    *object = json(&fields);
}

fn understand_fields(group: &str, kind: &str, hub: &str, fields: &mut Map) {
    let Some(shape) = Shape::of(group, kind) else { return };
    if fields.contains_key("metadata") && check_metadata(fields).is_err() {
        return;
    }
    let (mut forms, narrowing) = annotations::take(fields);
    let written = take_content(fields);
    let face = VersionView { shape, version: hub, room: annotations::room(fields) };
    let (content, form) = face.understood(written, &narrowing);
    // An object that was read before no longer shows its original form; only its annotation has it.
    if form != OriginalForm::default() {
        forms.set(hub, form);
    }
    forms.forget_text();
    annotations::write(fields, &forms, &Map::default());
    fields.extend(&content);
}

/// Takes the content out of `object`, in the form of the hub, with the original form at each version.
fn read(shape: Shape, version: &str, object: &mut Map) -> (Map, Forms) {
    let (mut forms, narrowing) = annotations::take(object);
    let written = take_content(object);
    let face = VersionView { shape, version, room: annotations::room(object) };
    let (content, form) = face.understood(written, &narrowing);
    forms.set(version, form);
    (content, forms)
}

/// Writes the content into `object` in the form of `version`, and into annotations what `version` has no field for.
fn write(shape: Shape, version: &str, content: &Map, mut forms: Forms, object: &mut Map) {
    let mut form = forms.remove(version).unwrap_or_default();
    let text = form.text.take();
    let face = VersionView { shape, version, room: annotations::room(object) };
    let (printed, narrowing) = face.printed(content.clone(), &form);
    // Used only if it reads as exactly the content of the object: then it does not matter which client wrote it.
    let equivalent = text.filter(|text| face.understood(text.clone(), &narrowing).0 == *content);
    annotations::write(object, &forms, &narrowing);
    object.extend(&equivalent.unwrap_or(printed));
}

/// Reader and printer of objects at one version.
#[derive(Clone, Copy)]
struct VersionView<'v> {
    shape: Shape,
    version: &'v str,
    /// Maximum size of the value of an annotation of this object, in bytes.
    room: usize,
}

impl VersionView<'_> {
    /// Returns the content that the fields mean, and the form in which they are written.
    fn understood(self, written: Map, narrowing: &Map) -> (Map, OriginalForm) {
        let mut form = OriginalForm::default();
        let mut content = written.clone();
        self.shape.read(self.version, &mut content, &mut form);
        for piece in self.hidden_pieces().filter(|piece| piece.is_in(&content)) {
            form.shown.insert(piece.name.into());
        }
        // The reverse order of hiding: a field that is inside of another one comes after it.
        for piece in self.shape.pieces().iter().rev() {
            if let Some(hidden) = narrowing.get(piece.name) {
                piece.restore(&mut content, hidden);
            }
        }
        self.shape.settle(&mut content);
        // What is too large to be hidden is shown by this conversion, not by the writer of the object.
        if !form.shown.is_empty() && !self.fits(&self.hidden(&mut content.clone(), &OriginalForm::default()))
        {
            form.shown.clear();
        }
        if self.printed(content.clone(), &form).0 != written {
            form.text = Some(written);
        }
        (content, form)
    }

    /// Returns the fields that express `content` in `form`, and what narrows it and is not among them.
    fn printed(self, mut content: Map, form: &OriginalForm) -> (Map, Map) {
        let whole = content.clone();
        let mut narrowing = self.hidden(&mut content, form);
        if !self.fits(&narrowing) {
            (content, narrowing) = (whole, Map::default());
        }
        self.shape.print(self.version, &mut content, form);
        (content, narrowing)
    }

    /// Takes out of `content`, and returns, what narrows it and is not shown.
    fn hidden(self, content: &mut Map, form: &OriginalForm) -> Map {
        let is_hidden = |piece: &&NarrowingField| {
            !form.shown.contains(piece.name) || self.shape.is_ambiguous(piece, content, form)
        };
        let pieces: Vec<&NarrowingField> = self.hidden_pieces().filter(is_hidden).collect();
        pieces.into_iter().filter_map(|piece| Some((piece.name.into(), piece.hide(content)?))).collect()
    }

    fn hidden_pieces(self) -> impl Iterator<Item = &'static NarrowingField> {
        self.shape.pieces().iter().filter(move |piece| piece.is_hidden_at(self.version))
    }

    /// Returns true if an annotation has room for it. The API server refuses a conversion whose annotations are too
    /// large, and with it the whole list that contains the object, whichever client requested it.
    fn fits(self, narrowing: &Map) -> bool {
        narrowing.is_empty() || annotations::narrowing_text(narrowing).len() <= self.room
    }
}

/// Takes out the fields that depend on the version. Metadata and status have the same form in all versions.
fn take_content(object: &mut Map) -> Map {
    object.split_off(|name| !matches!(name, "apiVersion" | "kind" | "metadata" | "status"))
}

fn text_of(object: &Map, field: &str) -> String {
    object.get(field).and_then(Value::as_string).unwrap_or_default()
}

fn kind(object: &Map) -> String {
    text_of(object, "kind")
}

/// Splits `api_version` into group and version, if they are served for the object's kind.
fn version<'v>(object: &Map, api_version: &'v str) -> Result<(&'v str, &'v str), Error> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if served(group, &kind(object)).contains(&version) {
        return Ok((group, version));
    }
    Err(not_served(object, api_version, group))
}

fn not_served(object: &Map, version: &str, group: &str) -> Error {
    let versions = served(group, &kind(object));
    let expected = if versions.is_empty() {
        "one of the kinds and groups of SMI".to_owned()
    } else {
        let versions: Vec<_> = versions.iter().map(|version| format!("{group}/{version}")).collect();
        versions.join(" or ")
    };
    Error::NotServed { object: name(object), version: version.to_owned(), expected }
}

fn check_metadata(object: &Map) -> Result<(), Error> {
    let null = Value::Text("null".into());
    let metadata = object.get("metadata").unwrap_or(&null);
    let annotations = metadata.as_object().and_then(|metadata| metadata.get("annotations"));
    let annotations = annotations.filter(|annotations| !annotations.is_null());
    for (field, value) in [("metadata", Some(metadata)), ("metadata.annotations", annotations)] {
        if let Some(value) = value.filter(|value| !value.is_object()) {
            return Err(Error::Shape { object: name(object), field, found: what(value), expected: "a map" });
        }
    }
    Ok(())
}

fn name(object: &Map) -> String {
    let metadata = object.get("metadata").and_then(Value::as_object);
    let of = |field: &str| metadata?.get(field)?.as_string();
    let kind = kind(object);
    let kind = if kind.is_empty() { "an object without a kind" } else { &kind };
    match (of("namespace"), of("name")) {
        (_, None) => kind.to_owned(),
        (None, Some(name)) => format!("{kind} {name}"),
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
    }
}

fn what(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "a map",
        Value::Text(text) => match text.as_bytes().first() {
            None | Some(b'n') => "nothing",
            Some(b't' | b'f') => "a boolean",
            Some(b'"') => "text",
            Some(b'[') => "a list",
            Some(b'{') => "a map",
            Some(_) => "a number",
        },
    }
}
