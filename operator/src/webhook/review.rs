//! Reads the two kinds of review that an API server sends, as far as all webhooks need them, and builds the answers.
//!
//! Pure. Objects stay raw JSON, so that fields that this program does not know are preserved. `injection`, `validation`
//! and `conversion` decide the answers.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, json, value::RawValue};

use crate::finding::brief;

/// Version of AdmissionReviews.
const ADMISSION: &str = "admission.k8s.io/v1";
/// Version of ConversionReviews.
const CONVERSION: &str = "apiextensions.k8s.io/v1";

/// Errors of reading a review.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body is not the JSON of a review with a request.
    #[error("invalid review: {}", brief(&.0.to_string()))]
    Body(#[from] serde_json::Error),
    /// The version of the format is not served.
    #[error("invalid review: apiVersion \"{}\", expected {expected:?}", brief(found))]
    Version {
        /// Version in the review.
        found: String,
        /// Version that is served.
        expected: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<R> {
    api_version: String,
    request: R,
}

/// Request of an AdmissionReview. `O` is the type of the object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Admission<O = Value> {
    /// UID of the request; the answer repeats it.
    pub uid: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(default)]
    pub operation: String,
    /// Subresource of the object that is written; empty for the object itself.
    #[serde(default)]
    pub sub_resource: String,
    /// Namespace of the object; empty if it is in none.
    #[serde(default)]
    pub namespace: String,
    /// Name of the object; empty if the API server is to generate one.
    #[serde(default)]
    pub name: String,
    /// Group and kind of the object.
    pub kind: GroupKind,
    /// The object after the operation.
    pub object: Option<O>,
    /// The object before the operation.
    pub old_object: Option<O>,
}

/// Group and kind of an object.
#[derive(Debug, Deserialize)]
pub struct GroupKind {
    /// The API group; empty for the core.
    #[serde(default)]
    pub group: String,
    /// The kind.
    pub kind: String,
}

/// Request of a ConversionReview.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conversion<'b> {
    /// UID of the request; the answer repeats it.
    pub uid: String,
    /// Requested version.
    #[serde(rename = "desiredAPIVersion")]
    pub desired_api_version: String,
    /// The list of objects, none of which has that version, as written in the body: they are converted one by one, as
    /// each takes a multiple of its text in memory.
    #[serde(borrow, default)]
    pub objects: Option<&'b RawValue>,
}

/// A request, as far as it can be read.
#[derive(Debug)]
pub enum Read<Whole, Envelope> {
    /// The whole request.
    Whole(Whole),
    /// The request without its objects, as one of them cannot be read, for example because it is nested too deeply.
    Envelope(Envelope, serde_json::Error),
}

/// Reads an AdmissionReview.
pub fn admission(body: &[u8]) -> Result<Read<Admission, Admission<IgnoredAny>>, Error> {
    read(body, ADMISSION)
}

/// Length of the start of a review that is searched for a text, in bytes. API servers write the UID first, and the
/// object after the rest.
const START: usize = 4 << 10;

/// Returns a text of the request of a review, by the path of its fields there, without reading more than the review's start.
pub fn text(body: &[u8], path: &[&str]) -> Option<String> {
    find(body, &[&["request"], path].concat())
}

/// Returns the UID of an AdmissionReview, without reading more than its start.
pub fn uid(body: &[u8]) -> Option<String> {
    find(body, &["request", "uid"])
}

/// Returns the namespace of an AdmissionReview, without reading more than its start.
pub fn namespace(body: &[u8]) -> Option<String> {
    find(body, &["request", "namespace"])
}

/// Returns the operation of an AdmissionReview, without reading more than its start.
pub fn operation(body: &[u8]) -> Option<String> {
    find(body, &["request", "operation"])
}

fn find(body: &[u8], path: &[&str]) -> Option<String> {
    let mut found = None;
    let start = body.get(..START).unwrap_or(body);
    // Stops with an error where the text was found, or where the start ends.
    let _ = serde_json::Deserializer::from_slice(start).deserialize_map(Find(path, &mut found));
    found
}

/// Searches for a text along a path of fields.
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

/// Reads a ConversionReview. Its objects may be nested to any depth: they are not parsed.
pub fn conversion(body: &[u8]) -> Result<Conversion<'_>, Error> {
    let Review { api_version, request } = serde_json::from_slice::<Review<Conversion<'_>>>(body)?;
    versioned(api_version, CONVERSION).map(|()| request)
}

fn versioned(found: String, expected: &'static str) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Version { found, expected }) }
}

/// Reads a review, or, if that fails, its envelope. Skipping a value takes no stack and checks no text, so no object
/// can make the second attempt fail.
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

/// Builds the answer that admits an object, with warnings for the user who applies it.
pub fn allow(uid: &str, warnings: &[String]) -> Value {
    of("AdmissionReview", ADMISSION, allowed(uid, warnings))
}

/// Builds the answer that admits an object with a JSON patch, encoded in base64.
pub fn patch(uid: &str, warnings: &[String], patch: String) -> Value {
    let mut response = allowed(uid, warnings);
    response.insert("patchType".to_owned(), json!("JSONPatch"));
    response.insert("patch".to_owned(), Value::String(patch));
    of("AdmissionReview", ADMISSION, response)
}

/// Builds the answer that refuses an object. `code` and `reason` are those of a Status.
pub fn deny(uid: &str, code: u16, reason: &str, message: &str, warnings: &[String]) -> Value {
    let mut response = allowed(uid, warnings);
    response.insert("allowed".to_owned(), json!(false));
    response.insert("status".to_owned(), json!({"code": code, "reason": reason, "message": message}));
    of("AdmissionReview", ADMISSION, response)
}

/// Builds the answer with the converted objects; `list` is the JSON of their list.
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

/// Builds the answer that no object was converted, with the reason.
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

/// Builds a review with a response. Moves the response, where `json!` would copy it: it may be large.
fn of(kind: &str, api_version: &str, response: Map<String, Value>) -> Value {
    let mut review = Map::new();
    review.insert("apiVersion".to_owned(), json!(api_version));
    review.insert("kind".to_owned(), json!(kind));
    review.insert("response".to_owned(), Value::Object(response));
    Value::Object(review)
}
