//! Turns the objects that have a status into the data that is needed to write it: UID, generation, present status, and
//! the objects that each refers to.
//!
//! Pure. Kept by `publish` beside the inputs, and updated with them object by object. Does not judge objects: findings
//! do.

use std::sync::Arc;

use imbl::OrdMap;
use smidge_crds::{
    object::{Kind, Object},
    status::Status,
};

use crate::{
    finding::ObjectRef,
    inputs::{Inputs, Key, Objects},
    kinds::{self, References, Row, Visitor, Watched},
    source::Scope,
};

/// An object that has a status.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// UID of the object; empty if it could not be read.
    pub uid: String,
    /// Generation of the object; `None` if it could not be read.
    pub generation: Option<i64>,
    /// Present status of the object.
    pub status: Option<Status>,
    /// Objects that it refers to, whether they exist or not.
    pub uses: Vec<ObjectRef>,
}

/// All objects that have a status. A copy costs nothing, and two are compared at the cost of what they do not share.
pub type KnownObjects = OrdMap<ObjectRef, Arc<Known>>;

/// Updates the objects in `scope` from `inputs`. Kinds without a status are ignored.
pub fn refresh(known: &mut KnownObjects, inputs: &Inputs, scope: &Scope) {
    kinds::visit(&mut Refresh { known, inputs, scope });
}

struct Refresh<'a> {
    known: &'a mut KnownObjects,
    inputs: &'a Inputs,
    scope: &'a Scope,
}

impl Visitor for Refresh<'_> {
    fn kind<K: Watched>(&mut self, _: &Row<K>) {}

    fn custom<Spec: Kind>(&mut self, row: &Row<Object<Spec>>, references: References<Spec>) {
        let objects = (row.objects)(self.inputs);
        let keys = match self.scope {
            Scope::Objects(named) => {
                let of_kind =
                    named.range((row.name, Key::default())..).take_while(|(kind, _)| *kind == row.name);
                of_kind.map(|(_, key)| key.clone()).collect()
            }
            Scope::Kind(kind) if *kind == row.name => self.forget(row.name, objects),
            Scope::Kind(_) => return,
        };
        for key in keys {
            let object = ObjectRef::new(row.name, &key.0, &key.1);
            let is_unreadable = self.inputs.unreadable.contains_key(&(row.name.to_owned(), key.clone()));
            let read = objects.get(&key).map(|object| known(object, references(&key, &object.spec)));
            match if is_unreadable { Some(Known::default()) } else { read } {
                Some(known) => drop(self.known.insert(object, Arc::new(known))),
                None => drop(self.known.remove(&object)),
            }
        }
    }
}

impl Refresh<'_> {
    /// Forgets all objects of the kind; returns the names of those that exist.
    fn forget<K>(&mut self, kind: &str, objects: &Objects<K>) -> Vec<Key> {
        let first = ObjectRef::new(kind, "", "");
        let all = self.known.range(first..).map(|(object, _)| object);
        for object in all.take_while(|object| object.kind == kind).cloned().collect::<Vec<_>>() {
            self.known.remove(&object);
        }
        let unreadable = self.inputs.unreadable.keys().filter(|(of, _)| of == kind);
        objects.keys().chain(unreadable.map(|(_, key)| key)).cloned().collect()
    }
}

fn known<Spec>(object: &Object<Spec>, uses: Vec<ObjectRef>) -> Known {
    Known {
        uid: object.metadata.uid.clone().unwrap_or_default(),
        generation: object.metadata.generation,
        status: object.status.clone(),
        uses,
    }
}
