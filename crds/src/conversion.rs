//! Converts an object of an SMI kind from one API version to another, as the API server asks for it.
//!
//! Pure, on values as they stand on the wire: the API server's and the offline tools' objects go the same way. Every
//! conversion goes through the hub's content ([`kinds`] says what each version has where), so that n versions need n
//! readings and n printings. What a version cannot say travels in two annotations ([`annotations`]): one narrows what is
//! visible, the other remembers mere form. What is too large for the first is shown as a field all the same. Judges no object: what it does not understand it leaves where it is, and
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

use self::annotations::{Forms, OriginalForm};
use self::outer::{Map, Value};
pub(crate) use self::pieces::FieldLocation;
use self::pieces::NarrowingField;
use crate::kinds::{KINDS, KindInfo, Shape};

pub use self::annotations::{NARROWED_BY, WRITTEN_AS};
pub use self::mixed::{Mixed, mixed};
pub use self::read::ReadError;

/// Why an object cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The field does not have the shape that every Kubernetes object has.
    #[error("cannot convert {object}: {field} is {found}: expected {expected}")]
    Shape {
        /// The object, by kind, namespace and name as far as they can be read.
        object: String,
        /// The field.
        field: &'static str,
        /// What stands there.
        found: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
    /// One of the versions is not served, or the kind is none of ours.
    #[error("cannot convert {object}: apiVersion {version:?} is not served: expected {expected}")]
    NotServed {
        /// The object, by kind, namespace and name as far as they can be read.
        object: String,
        /// The API group and version.
        version: String,
        /// The versions that are.
        expected: String,
    },
}

/// The versions of a kind that are served, newest first; the first one is stored. None if the kind is none of ours.
pub fn served(group: &str, kind: &str) -> &'static [&'static str] {
    KindInfo::find(group, kind).map_or(&[], |info| info.versions)
}

/// The group of a kind of ours, for those who were told the kind only.
pub fn group(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|info| info.kind == kind).map(|info| info.group)
}

/// A field of the hub as users of another version call it: `spec.rules[0]` of a `TrafficTarget` is `specs[0]` at v1alpha1.
pub fn field_at(kind: &str, version: &str, field: &str) -> String {
    let shape = group(kind).and_then(|group| Shape::of(group, kind));
    let found = shape.into_iter().flat_map(Shape::slots).find_map(|slot| {
        let rest = field.strip_prefix(slot.hub())?;
        let is_whole = rest.is_empty() || rest.starts_with(['.', '[']);
        is_whole.then(|| format!("{}{rest}", slot.name_at(version)))
    });
    found.unwrap_or_else(|| field.to_owned())
}

/// The object at the API version `to`, for example `split.smi-spec.io/v1alpha2`.
pub fn convert(object: &Json, to: &str) -> Result<Json, Error> {
    let mut fields = fields(object)?;
    convert_fields(&mut fields, to)?;
    Ok(json(&fields))
}

/// As [`convert`], from text to text. Takes a few times the text; an object that is parsed in full takes up to a hundred.
pub fn convert_text(object: &str, to: &str) -> Result<String, TextError> {
    let mut fields: Map = serde_json::from_str(object)?;
    convert_fields(&mut fields, to).map_err(|error| TextError::Conversion {
        object: name(&fields),
        version: text_of(&fields, "apiVersion"),
        error: Box::new(error),
    })?;
    Ok(serde_json::to_string(&fields)?)
}

/// Why a text cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// It is no object that can be read.
    #[error("{0}")]
    Unreadable(#[from] serde_json::Error),
    /// The object cannot be converted.
    #[error("{error}")]
    Conversion {
        /// The object, by kind, namespace and name as far as they can be read.
        object: String,
        /// The version that it has.
        version: String,
        /// Why not.
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

/// As values that others read. What was read before can be read again.
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

/// The object at the version that is stored, with every field in the place that this version has it in, however it was
/// written: what the hub types read. (The API server gets from [`convert`] an object that looks as it was written.)
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

/// Turns an object of the hub version, written in whatever shape, into what the hub types read. What was mixed stays
/// known to [`mixed`]. Anything but an object is left to the types to refuse.
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
    // An object that was understood already says no more how it was written, but in its annotation.
    if form != OriginalForm::default() {
        forms.set(hub, form);
    }
    forms.forget_text();
    annotations::write(fields, &forms, &Map::default());
    fields.extend(&content);
}

/// Takes the content out of `object`, as the hub has it, with how each version had it.
fn read(shape: Shape, version: &str, object: &mut Map) -> (Map, Forms) {
    let (mut forms, narrowing) = annotations::take(object);
    let written = take_content(object);
    let face = VersionView { shape, version, room: annotations::room(object) };
    let (content, form) = face.understood(written, &narrowing);
    forms.set(version, form);
    (content, forms)
}

/// Puts the content into `object` as `version` has it, and into annotations what `version` does not have.
fn write(shape: Shape, version: &str, content: &Map, mut forms: Forms, object: &mut Map) {
    let mut form = forms.remove(version).unwrap_or_default();
    let text = form.text.take();
    let face = VersionView { shape, version, room: annotations::room(object) };
    let (printed, narrowing) = face.printed(content.clone(), &form);
    // Believed only if it reads as exactly what the object means: then it does not matter who wrote it.
    let believed = text.filter(|text| face.understood(text.clone(), &narrowing).0 == *content);
    annotations::write(object, &forms, &narrowing);
    object.extend(&believed.unwrap_or(printed));
}

/// An object at a version.
#[derive(Clone, Copy)]
struct VersionView<'v> {
    shape: Shape,
    version: &'v str,
    /// How long an annotation may be here.
    room: usize,
}

impl VersionView<'_> {
    /// What the fields mean, and how they say it.
    fn understood(self, written: Map, narrowing: &Map) -> (Map, OriginalForm) {
        let mut form = OriginalForm::default();
        let mut content = written.clone();
        self.shape.read(self.version, &mut content, &mut form);
        for piece in self.hidden_pieces().filter(|piece| piece.is_in(&content)) {
            form.shown.insert(piece.name.into());
        }
        // The reverse order of hiding: what is inside of a field comes after the field.
        for piece in self.shape.pieces().iter().rev() {
            if let Some(hidden) = narrowing.get(piece.name) {
                piece.restore(&mut content, hidden);
            }
        }
        self.shape.settle(&mut content);
        // What is too large to be hidden is shown by us, not by whoever wrote the object.
        if !form.shown.is_empty() && !self.fits(&self.hidden(&mut content.clone(), &OriginalForm::default()))
        {
            form.shown.clear();
        }
        if self.printed(content.clone(), &form).0 != written {
            form.text = Some(written);
        }
        (content, form)
    }

    /// The fields that say `content`, in `form`, and what they do not say.
    fn printed(self, mut content: Map, form: &OriginalForm) -> (Map, Map) {
        let whole = content.clone();
        let mut narrowing = self.hidden(&mut content, form);
        if !self.fits(&narrowing) {
            (content, narrowing) = (whole, Map::default());
        }
        self.shape.print(self.version, &mut content, form);
        (content, narrowing)
    }

    /// Takes out of `content` what narrows it and is not shown.
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

    /// Whether an annotation has room for it. The API server refuses a conversion whose annotations are too large, and
    /// with it the whole list that the object is in, whoever asked for it.
    fn fits(self, narrowing: &Map) -> bool {
        narrowing.is_empty() || annotations::narrowing_text(narrowing).len() <= self.room
    }
}

/// The fields that belong to a version. Metadata and status have the same form in all.
fn take_content(object: &mut Map) -> Map {
    object.split_off(|name| !matches!(name, "apiVersion" | "kind" | "metadata" | "status"))
}

fn text_of(object: &Map, field: &str) -> String {
    object.get(field).and_then(Value::as_string).unwrap_or_default()
}

fn kind(object: &Map) -> String {
    text_of(object, "kind")
}

/// Group and version, if they are served for the object's kind.
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
