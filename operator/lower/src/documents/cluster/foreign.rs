//! Names the objects of other meshes among the documents: each kind once, with what Smidge has in its place.
//!
//! Such objects have no effect, and their owner may expect one. `other_mesh` has the table.

use std::collections::BTreeMap;

use super::{Document, key};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    other_mesh::{self, Foreign},
};

/// Kinds of other meshes: the first object of each by name, and the number of objects.
#[derive(Default)]
pub(super) struct Kinds<'d>(BTreeMap<(&'d str, &'d str), (Foreign, ObjectRef, usize)>);

impl<'d> Kinds<'d> {
    /// Adds a document, if it is of another mesh.
    pub fn add(&mut self, document: &'d Document) {
        let Document { group, kind, value, .. } = document;
        let Some(foreign) = other_mesh::kind(group, kind) else { return };
        let (namespace, name) = key(document, true, value.get("metadata")).unwrap_or_default();
        let object = ObjectRef::new(kind, namespace, name);
        let (_, first, number) = self.0.entry((group, kind)).or_insert_with(|| (foreign, object.clone(), 0));
        *number += 1;
        if object < *first {
            *first = object;
        }
    }

    /// Returns one finding for each kind.
    pub fn findings(self) -> impl Iterator<Item = Finding> + use<'d> {
        self.0.into_iter().map(|((group, kind), (foreign, object, number))| {
            let more = match number {
                1 => String::new(),
                2 => ", like one other object of this kind".to_owned(),
                more => format!(", like {} other objects of this kind", more - 1),
            };
            let message =
                format!("{kind} of {group} belongs to {}: it has no effect here{more}", foreign.mesh);
            let finding = Finding::new(object, Reason::OtherMesh, message).at("apiVersion");
            finding.hint(match foreign.instead {
                "" => "Smidge has nothing in its place".to_owned(),
                instead => format!("Smidge has in its place: {instead}"),
            })
        })
    }
}
