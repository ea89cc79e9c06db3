//! Records the version in which each object was written, for the names of fields.
//!
//! `lower` knows only the hub version, and so do its findings: `spec.rules` is `specs` in v1alpha1.

use std::collections::BTreeMap;

use smidge_crds::conversion::field_at;

use crate::finding::{Finding, ObjectRef, Reason};

/// Versions of objects, as written.
#[derive(Debug, Default)]
pub struct Written(BTreeMap<ObjectRef, String>);

impl Written {
    pub(super) fn add(&mut self, object: ObjectRef, version: &str) {
        self.0.insert(object, version.to_owned());
    }

    /// Renames the fields of `findings` to those of the versions of their objects.
    pub fn rename(&self, findings: &mut [Finding]) {
        for finding in findings {
            // A finding about the shape of a field names the field as written.
            let version =
                self.0.get(&finding.object).filter(|_| finding.reason != Reason::FieldFromOtherVersion);
            if let (Some(version), Some(field)) = (version, &mut finding.field) {
                *field = field_at(&finding.object.kind, version, field);
            }
        }
    }
}
