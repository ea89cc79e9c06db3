//! Reads the requests that a TrafficSplit is about: the matches of the HTTPRouteGroups that it lists, any of them.
//!
//! A reference that cannot be read matches nothing: a typing error must not send all requests to the new version.

use std::{collections::BTreeMap, sync::Arc};

use smidge_crds::{specs, split::RouteGroupReference};
use smidge_mesh::matches::Matches;

use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
    value::Group,
};

/// Returns the union of a split's `matches`, each with its cost. An empty one matches nothing.
pub(super) fn read(
    key: &Key,
    written: &[RouteGroupReference],
    object: &ObjectRef,
    context: &mut Context<'_>,
) -> BTreeMap<Matches, u64> {
    if written.is_empty() {
        let message = "an empty list matches no request, so all go to the root's own endpoints";
        context.report(
            Finding::new(object.clone(), Reason::Empty, message)
                .at("spec.matches")
                .hint("leave the field out to split all traffic"),
        );
    }
    let mut matches = BTreeMap::new();
    for (index, reference) in written.iter().enumerate() {
        match group(key, reference, context) {
            Ok(group) => matches.extend(Some(group.all().clone()).filter(|(all, _)| !all.is_empty())),
            Err((reason, field, message)) => {
                let message = format!("{message}; it matches no request");
                let finding = Finding::new(object.clone(), reason, message)
                    .at(format!("spec.matches[{index}].{field}"));
                let named = (reason == Reason::RouteNotFound)
                    .then(|| context.group_with_match(&key.0, &reference.name))
                    .flatten();
                context.report(match named {
                    Some(group) => finding.hint(format!(
                        "HTTPRouteGroup {group} has a match of that name; name the group, with that match alone if the \
                         others do not apply"
                    )),
                    None => finding,
                });
            }
        }
    }
    matches
}

fn group(
    key: &Key,
    reference: &RouteGroupReference,
    context: &mut Context<'_>,
) -> Result<Arc<Group>, (Reason, &'static str, String)> {
    let RouteGroupReference { api_group, kind, name } = reference;
    let unknown = |field, word: &str, expected: &str| {
        (
            Reason::InvalidKind,
            field,
            format!("{word:?} is none that a split can match by: expected {expected}"),
        )
    };
    if kind != "HTTPRouteGroup" {
        return Err(unknown("kind", kind, "HTTPRouteGroup"));
    }
    if let Some(group) = api_group.as_deref().filter(|group| !is_specs(group)) {
        return Err(unknown("apiGroup", group, specs::GROUP));
    }
    context.group((key.0.clone(), name.clone())).ok_or_else(|| {
        let message = format!("there is no HTTPRouteGroup {name:?} in namespace {}", key.0);
        (Reason::RouteNotFound, "name", message)
    })
}

/// Returns true if a group is empty or SMI's group of specs. Users write an API version where an API group is expected.
fn is_specs(group: &str) -> bool {
    group.is_empty() || group.split('/').next() == Some(specs::GROUP)
}
