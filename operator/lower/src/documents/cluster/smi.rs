//! Reads documents of custom kinds, mainly those of SMI, at any served version, through the hub version.
//!
//! A version that is not served is reported with the versions that are; nothing is assumed.

use smidge_crds::{
    Kind, Object, config,
    conversion::{self, ReadError},
};

use super::{Document, Unreadable, key};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::Objects,
    near::nearest,
    other_mesh,
};

/// Returns true if a document of this group and kind was written for an SMI mesh, even if wrongly.
pub(super) fn is_meant(group: &str, kind: &str) -> bool {
    let is_unique = |unique: &&str| unique.eq_ignore_ascii_case(kind);
    group.ends_with("smi-spec.io")
        || (group.is_empty() && conversion::group(kind).is_some())
        || (UNIQUE.iter().any(is_unique) && other_mesh::kind(group, kind).is_none())
}

/// Kinds that exist in SMI alone: with another group, that is misspelt.
const UNIQUE: [&str; 3] = ["HTTPRouteGroup", "TrafficSplit", "TrafficTarget"];

/// Adds an object of any served version to the objects, in the hub version.
pub(super) fn insert<Spec: Kind>(
    document: &Document,
    objects: &mut Objects<Object<Spec>>,
) -> Result<(), Unreadable> {
    let is_namespaced = smidge_crds::object::is_namespaced::<Object<Spec>>();
    let key = key(document, is_namespaced, document.value.get("metadata"))?;
    let hub =
        conversion::to_hub(&document.value).map_err(|error| document.unreadable("", error.to_string()))?;
    let mut object = Object::<Spec>::read(hub).map_err(|ReadError { field, message }| {
        let field = if field == "." { "" } else { &field };
        document.unreadable(&conversion::field_at(Spec::KIND, &document.version, field), message)
    })?;
    object.metadata.name = Some(key.1.clone());
    object.metadata.namespace = is_namespaced.then(|| key.0.clone());
    objects.insert(key, object.into());
    Ok(())
}

/// Returns the finding about an object whose version or kind is not served and which therefore has no effect.
pub(super) fn not_served(document: &Document, object: ObjectRef) -> Finding {
    let Document { group, version, kind, .. } = document;
    let versions = conversion::served(group, kind);
    if !versions.is_empty() {
        let expected = versions.join(" or ");
        let version = if version.is_empty() { "an empty version" } else { version };
        let message =
            format!("{version} of {kind} is not served: expected {expected}; the object has no effect");
        return Finding::new(object, Reason::NotServed, message).at("apiVersion");
    }
    if group == "metrics.smi-spec.io" {
        let message = format!("{kind} is read by API servers only; the object has no effect here");
        let hint = "write a MetricsPolicy, as which the API metrics.smi-spec.io keeps it";
        return Finding::new(object, Reason::NotServed, message).at("apiVersion").hint(hint);
    }
    let of = if group.is_empty() { "without an API group".to_owned() } else { format!("in {group}") };
    let message = format!("{kind} {of} is not served; the object has no effect");
    let finding = Finding::new(object, Reason::NotServed, message).at("apiVersion");
    // kubectl accepts `trafficsplit` and `TrafficSplits` on its command line.
    let smi = smidge_crds::KINDS.iter().filter(|info| info.group != config::GROUP).map(|info| info.kind);
    let meant = nearest(kind, smi);
    match meant.and_then(|kind| Some((kind, conversion::group(kind)?))) {
        None => finding,
        Some((meant, right)) if right == group => finding.hint(format!("the kind is written {meant}")),
        Some((kind, group)) => finding.hint(format!(
            "if SMI's {kind} is meant, its group is {group}, with the versions {}",
            conversion::served(group, kind).join(", ")
        )),
    }
}
