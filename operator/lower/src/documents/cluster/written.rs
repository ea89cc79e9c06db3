//! Remembers in which version each object was written, for the names of fields.
//!
//! `lower` knows the hub alone, and so do its findings: `spec.rules` is `specs` to who wrote v1alpha1.

use std::collections::BTreeMap;

use smidge_crds::conversion::field_at;

use crate::finding::{Finding, ObjectRef, Reason};

/// The versions of objects.
#[derive(Debug, Default)]
pub struct Written(BTreeMap<ObjectRef, String>);

impl Written {
    pub(super) fn add(&mut self, object: ObjectRef, version: &str) {
        self.0.insert(object, version.to_owned());
    }

    /// Calls the fields of `findings` as the versions of their objects do.
    pub fn rename(&self, findings: &mut [Finding]) {
        for finding in findings {
            // Which shape a field has is said with the field as it stands.
            let version =
                self.0.get(&finding.object).filter(|_| finding.reason != Reason::FieldFromOtherVersion);
            if let (Some(version), Some(field)) = (version, &mut finding.field) {
                *field = field_at(&finding.object.kind, version, field);
            }
        }
    }
}
