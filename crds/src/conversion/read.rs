//! Turns a value of the hub version, in any shape, into an [`Object`].
//!
//! Used by watches, files and webhooks. Does not validate values: what is invalid stays representable.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{
    object::{Kind, Object, or_default},
    status::{self, Status},
    type_error,
};

/// Error of reading a value as an object of the kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ReadError {
    /// The field at fault; `.` for the object itself.
    pub field: String,
    /// The defect of the field.
    pub message: String,
}

impl<Spec: Kind> Object<Spec> {
    /// Reads an object of the hub version, in any shape. The caller has chosen the kind; `apiVersion` is ignored.
    pub fn read(mut object: Value) -> Result<Self, ReadError> {
        super::understand(Spec::GROUP, Spec::KIND, Spec::VERSION, &mut object);
        let written: Written<Spec> = serde_path_to_error::deserialize(object).map_err(|error| ReadError {
            field: error.path().to_string(),
            message: type_error::plain(&error.into_inner().to_string()),
        })?;
        let Written { metadata, spec, status } = written;
        Ok(Self { metadata, spec, status })
    }
}

impl<'de, Spec: Kind> Deserialize<'de> for Object<Spec> {
    /// Reads as [`Object::read`] does.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(bound = "Spec: Kind")]
struct Written<Spec> {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "status::or_none")]
    status: Option<Status>,
}
