//! Puts objects of files into the inputs, at the cost of these objects.
//!
//! Used by `folder` as the edit that it sends. An object that is the same keeps its place in memory and its status, so
//! that lowering and status do nothing for it. Judges no object.

use std::{collections::BTreeMap, sync::Arc};

use smidge_crds::object::{Kind, Object};

use super::{LIST, holders::Name};
use crate::{
    inputs::{Inputs, Key, Objects, Shared},
    kinds::{self, Change, References, Row, Visitor, Watched},
};

/// Objects to be replaced, by kind and name, each with the file that has it; `None` if no file has it any more.
pub(super) type Replacements = BTreeMap<Name, Option<Arc<Inputs>>>;

/// Replaces the objects.
pub(super) fn replace(inputs: &mut Inputs, replacements: &Replacements) -> Change {
    let mut replace = Replace { inputs, replacements, change: Change::StatusOnly };
    kinds::visit(&mut replace);
    replace.change
}

struct Replace<'a> {
    inputs: &'a mut Inputs,
    replacements: &'a Replacements,
    change: Change,
}

impl Replace<'_> {
    /// Replaces the objects of a kind. `next` returns the object to keep in the place of the present one, if there is one,
    /// or `None` if that stays.
    fn list<K: Watched>(
        &mut self,
        row: &Row<K>,
        next: impl Fn(Option<&Shared<K>>, &Shared<K>) -> Option<Shared<K>>,
    ) {
        let first = (row.name, Key::default());
        let of_kind = self.replacements.range(first..).take_while(|((kind, _), _)| *kind == row.name);
        let list: &mut Objects<K> = (row.objects_mut)(self.inputs);
        for ((_, key), file) in of_kind {
            let object = file.as_deref().and_then(|file| (row.objects)(file).get(key));
            let changed = match object {
                None => list.remove(key).is_some(),
                Some(object) => match next(list.get(key), object) {
                    None => false,
                    Some(replacement) => {
                        list.insert(key.clone(), replacement);
                        true
                    }
                },
            };
            if changed {
                self.change = Change::Semantic;
            }
        }
    }
}

impl Visitor for Replace<'_> {
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        self.list(row, |present, object| (present != Some(object)).then(|| object.clone()));
    }

    fn custom<Spec: Kind>(&mut self, row: &Row<Object<Spec>>, _: References<Spec>) {
        self.list(row, |present, object| {
            let mut next = Object::clone(object);
            // What the API server would add. Only status needs it: whether an object is the one that was judged.
            next.metadata.uid.get_or_insert_with(|| format!("{LIST}/{}", row.name));
            let generation = present.and_then(|present| present.metadata.generation);
            next.metadata.generation = generation.or(next.metadata.generation).or(Some(1));
            let Some(present) = present else { return Some(next.into()) };
            if next.compare(present) == Change::StatusOnly {
                return None;
            }
            next.metadata.generation = generation.map(|generation| generation.saturating_add(1));
            next.status = present.status.clone().or(next.status);
            Some(next.into())
        });
    }
}
