//! Turns a ConversionReview into its answer: the same objects, in the requested version.
//!
//! Pure. `smidge_crds::conversion` decides which fields a version has, and how the others are preserved; this file has
//! only the demands of the API server on the answer: as many objects in the same order. (Of their metadata nothing may
//! change but labels and annotations; conversions change the latter only.) Needs no state that the operator reads while
//! it runs, so it answers from the start: the operator's own lists may wait for it.

use std::fmt;

use serde::{
    Deserializer as _,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use smidge_crds::conversion::{self, TextError};

use super::review::{self, Conversion, Error};
use crate::finding::in_short;

/// Maximum size of an object that is converted, in bytes. An API server stores 1.5 MiB unless its etcd is configured
/// otherwise; the additional memory of a conversion is a multiple of it (`docs/design/013-operator-ports.md` has the
/// figures).
const MAX_OBJECT: usize = 2 << 20;

/// Answers a review. One object that cannot be converted fails all of it, as the API server has no use for a part. One
/// object at a time is parsed: only the text of the answer is held in addition to the body.
pub fn answer(body: &[u8]) -> Result<Vec<u8>, Error> {
    judged(body).map(|(answer, _)| answer)
}

/// Answers a review as [`answer`] does; returns true with the answer if every object was converted.
pub(super) fn judged(body: &[u8]) -> Result<(Vec<u8>, bool), Error> {
    let Conversion { uid, desired_api_version: wanted, objects } = review::conversion(body)?;
    let mut each = Each { wanted: &wanted, list: vec![b'['], failure: None };
    let read = match objects {
        Some(objects) => serde_json::Deserializer::from_str(objects.get()).deserialize_seq(&mut each),
        None => Ok(()),
    };
    let Each { mut list, failure, .. } = each;
    if let Some(message) = failure {
        return Ok((review::not_converted(&uid, &message)?, false));
    }
    read?;
    list.push(b']');
    Ok((review::converted(&uid, serde_json::from_slice(&list)?)?, true))
}

/// Converts a list while it is read.
struct Each<'w> {
    wanted: &'w str,
    list: Vec<u8>,
    failure: Option<String>,
}

impl<'de> Visitor<'de> for &mut Each<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut objects: A) -> Result<(), A::Error> {
        while let Some(object) = objects.next_element::<&RawValue>()? {
            let converted = match convert(object.get(), self.wanted) {
                Ok(converted) => converted,
                Err(message) => {
                    self.failure = Some(message);
                    return Err(A::Error::custom("not converted"));
                }
            };
            if self.list.len() > 1 {
                self.list.push(b',');
            }
            self.list.extend_from_slice(converted.as_bytes());
        }
        Ok(())
    }
}

fn convert(text: &str, wanted: &str) -> Result<String, String> {
    if text.len() > MAX_OBJECT {
        return Err(format!(
            "an object of {} bytes cannot be converted: expected at most {MAX_OBJECT}; hint: split it into several",
            text.len()
        ));
    }
    conversion::convert_text(text, wanted).map_err(|error| match error {
        TextError::Unreadable(error) => {
            in_short(format!("an object cannot be read: {error}; hint: nest its fields less deeply"))
        }
        // Names and versions are the user's own text.
        TextError::Conversion { object, version, error } => in_short(format!(
            "{object} at {version} cannot become {wanted}: {error}; hint: correct it by way of the version that it was \
             written in, or delete it"
        )),
    })
}
