//! Finds definitions of SMI kinds that are not Smidge's own.
//!
//! Manifests for another mesh often include them. Applied, they replace those of Smidge, with their versions and the
//! conversion between these.

use serde_json::Value;
use smidge_crds::conversion;

use super::Document;
use crate::finding::{Finding, ObjectRef, Reason};

/// Service that converts objects, in definitions of Smidge's own.
const WEBHOOK: &str = "smidge-webhook";

/// Returns a warning for a definition of an SMI kind from another source.
pub(super) fn foreign(document: &Document) -> Option<Finding> {
    let value = &document.value;
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, kind) = (text("/spec/group"), text("/spec/names/kind"));
    let ours = conversion::served(group, kind);
    let is_smi = group.ends_with(".smi-spec.io") && !ours.is_empty();
    if !is_smi || text("/spec/conversion/webhook/clientConfig/service/name") == WEBHOOK {
        return None;
    }
    let listed = value.pointer("/spec/versions").and_then(Value::as_array);
    let is_served = |version: &&Value| version.get("served").and_then(Value::as_bool) == Some(true);
    let served: Vec<&str> = listed
        .into_iter()
        .flatten()
        .filter(is_served)
        .filter_map(|version| version.get("name")?.as_str())
        .chain(listed.is_none().then(|| text("/spec/version")))
        .collect();
    let lost: Vec<&str> = ours.iter().copied().filter(|version| !served.contains(version)).collect();
    let mut taken = Vec::new();
    if !lost.is_empty() {
        taken.push(format!("the versions {}", lost.join(", ")));
    }
    if ours.len() > 1 {
        taken.push("the conversion between versions".to_owned());
    }
    let taken = taken.into_iter().fold("the status".to_owned(), |all, more| format!("{all}, {more}"));
    let message =
        format!("is another definition of {kind} than Smidge's: in its place, it takes away {taken}");
    let object = ObjectRef::new("CustomResourceDefinition", "", text("/metadata/name"));
    let finding = Finding::new(object, Reason::ForeignCRD, message);
    Some(finding.hint("leave it out; `smidge crds` prints Smidge's own"))
}
