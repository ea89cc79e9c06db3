//! The two kinds of review that an API server sends, as far as every webhook reads them, and the answers to them.
//!
//! Pure. Objects stay raw JSON, so that what this program does not know of them survives. What to answer is decided by
//! `injection`, `validation` and `conversion`.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, json, value::RawValue};

use crate::finding::brief;

/// The version of AdmissionReviews.
const ADMISSION: &str = "admission.k8s.io/v1";
/// The version of ConversionReviews.
const CONVERSION: &str = "apiextensions.k8s.io/v1";

/// Why a body is no review.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON of a review with a request.
    #[error("invalid review: {}", brief(&.0.to_string()))]
    Body(#[from] serde_json::Error),
    /// A version of the format that is not served.
    #[error("invalid review: apiVersion \"{}\", expected {expected:?}", brief(found))]
    Version {
        /// What it says.
        found: String,
        /// What is served.
        expected: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<R> {
    api_version: String,
    request: R,
}

/// What the API server asks about an object. `O` is the object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Admission<O = Value> {
    /// Names the question; the answer repeats it.
    pub uid: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(default)]
    pub operation: String,
    /// The part of the object that is written; empty for all of it.
    #[serde(default)]
    pub sub_resource: String,
    /// The object's namespace; empty for what lives in none.
    #[serde(default)]
    pub namespace: String,
    /// The object's name; empty if the API server is to make one up.
    #[serde(default)]
    pub name: String,
    /// What the object is.
    pub kind: GroupKind,
    /// The object as it is to be.
    pub object: Option<O>,
    /// The object as it was.
    pub old_object: Option<O>,
}

/// What an object is.
#[derive(Debug, Deserialize)]
pub struct GroupKind {
    /// The API group; empty for the core.
    #[serde(default)]
    pub group: String,
    /// The kind.
    pub kind: String,
}

/// What the API server asks to be converted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conversion<'b> {
    /// Names the question; the answer repeats it.
    pub uid: String,
    /// The version that is wanted.
    #[serde(rename = "desiredAPIVersion")]
    pub desired_api_version: String,
    /// The list of objects, none of which has that version, as it stands in the body: they are converted one by one, as each
    /// takes some times its text.
    #[serde(borrow, default)]
    pub objects: Option<&'b RawValue>,
}

/// A request, read as far as it can be.
#[derive(Debug)]
pub enum Read<Whole, Envelope> {
    /// All of it.
    Whole(Whole),
    /// An object in it cannot be read, for example because it is nested too deeply, but what asks about it can.
    Envelope(Envelope, serde_json::Error),
}

/// Reads an AdmissionReview.
pub fn admission(body: &[u8]) -> Result<Read<Admission, Admission<IgnoredAny>>, Error> {
    read(body, ADMISSION)
}

/// The start of a review in which its name is looked for. API servers write it first.
const START: usize = 4 << 10;

/// What names an AdmissionReview, without reading more than its start.
pub fn uid(body: &[u8]) -> Option<String> {
    let mut found = None;
    let start = body.get(..START).unwrap_or(body);
    // Breaks off where it has found it, or where the start ends.
    let _ =
        serde_json::Deserializer::from_slice(start).deserialize_map(Find(&["request", "uid"], &mut found));
    found
}

/// Looks for a text along a path of fields.
struct Find<'f>(&'f [&'f str], &'f mut Option<String>);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() {
            *self.1 = Some(String::deserialize(deserializer)?);
            return Ok(());
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(()) };
        while let Some(name) = map.next_key::<String>()? {
            if name == *first {
                return map.next_value_seed(Find(rest, self.1));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Reads a ConversionReview. Its objects may be nested as deeply as they like: they are not parsed.
pub fn conversion(body: &[u8]) -> Result<Conversion<'_>, Error> {
    let Review { api_version, request } = serde_json::from_slice::<Review<Conversion<'_>>>(body)?;
    versioned(api_version, CONVERSION).map(|()| request)
}

fn versioned(found: String, expected: &'static str) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Version { found, expected }) }
}

/// Skipping a value takes no stack and checks no text, so the second attempt gets past any object.
fn read<W: DeserializeOwned, E: DeserializeOwned>(
    body: &[u8],
    expected: &'static str,
) -> Result<Read<W, E>, Error> {
    match serde_json::from_slice::<Review<W>>(body) {
        Ok(Review { api_version, request }) => {
            versioned(api_version, expected).map(|()| Read::Whole(request))
        }
        Err(error) => {
            let Ok(Review { api_version, request }) = serde_json::from_slice::<Review<E>>(body) else {
                return Err(error.into());
            };
            versioned(api_version, expected).map(|()| Read::Envelope(request, error))
        }
    }
}

/// Lets an object in, with words for whoever applies it.
pub fn allow(uid: &str, warnings: &[String]) -> Value {
    of("AdmissionReview", ADMISSION, allowed(uid, warnings))
}

/// Lets an object in with a JSON patch, encoded in base64.
pub fn patch(uid: &str, warnings: &[String], patch: String) -> Value {
    let mut response = allowed(uid, warnings);
    response.insert("patchType".to_owned(), json!("JSONPatch"));
    response.insert("patch".to_owned(), Value::String(patch));
    of("AdmissionReview", ADMISSION, response)
}

/// Keeps an object out. `code` and `reason` are those of a Status.
pub fn deny(uid: &str, code: u16, reason: &str, message: &str, warnings: &[String]) -> Value {
    let mut response = allowed(uid, warnings);
    response.insert("allowed".to_owned(), json!(false));
    response.insert("status".to_owned(), json!({"code": code, "reason": reason, "message": message}));
    of("AdmissionReview", ADMISSION, response)
}

/// The converted objects, `list` being the JSON of their list.
pub fn converted(uid: &str, list: &RawValue) -> Result<Vec<u8>, Error> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Response<'r> {
        uid: &'r str,
        result: Value,
        converted_objects: &'r RawValue,
    }
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer<'r> {
        api_version: &'static str,
        kind: &'static str,
        response: Response<'r>,
    }
    let response = Response { uid, result: json!({"status": "Success"}), converted_objects: list };
    Ok(serde_json::to_vec(&Answer { api_version: CONVERSION, kind: "ConversionReview", response })?)
}

/// Why nothing was converted.
pub fn not_converted(uid: &str, message: &str) -> Result<Vec<u8>, Error> {
    let response = json!({
        "uid": uid, "result": {"status": "Failure", "message": message}, "convertedObjects": [],
    });
    Ok(serde_json::to_vec(
        &json!({"apiVersion": CONVERSION, "kind": "ConversionReview", "response": response}),
    )?)
}

fn allowed(uid: &str, warnings: &[String]) -> Map<String, Value> {
    let mut response = Map::from_iter([("uid".to_owned(), json!(uid)), ("allowed".to_owned(), json!(true))]);
    if !warnings.is_empty() {
        response.insert("warnings".to_owned(), json!(warnings));
    }
    response
}

/// Moves the response, where `json!` would copy it: it may be large.
fn of(kind: &str, api_version: &str, response: Map<String, Value>) -> Value {
    let mut review = Map::new();
    review.insert("apiVersion".to_owned(), json!(api_version));
    review.insert("kind".to_owned(), json!(kind));
    review.insert("response".to_owned(), Value::Object(response));
    Value::Object(review)
}
