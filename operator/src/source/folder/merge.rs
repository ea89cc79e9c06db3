//! Puts the objects of all files into the inputs, at the cost of a comparison for each that is the same.
//!
//! Used by `folder` as the edit that it sends. An object that did not change keeps its place in memory and its status,
//! so that lowering and status do nothing for it. Judges no object.

use std::{collections::BTreeMap, sync::Arc};

use smidge_crds::object::{Kind, Object};

use crate::{
    inputs::{Inputs, Key, Objects, Shared},
    kinds::{self, Change, References, Row, Visitor, Watched},
};

/// Replaces the objects in `inputs` by those of `files`; of two files with an object, the later one counts.
pub(super) fn replace(inputs: &mut Inputs, files: &[Arc<Inputs>]) -> Change {
    let mut replace = Replace { inputs, files, change: Change::StatusOnly };
    kinds::visit(&mut replace);
    replace.change
}

/// Returns the objects that more than one file has: kind, name and the positions of the files.
pub(super) fn duplicates(files: &[Arc<Inputs>]) -> Vec<(&'static str, Key, Vec<usize>)> {
    let mut duplicates = Duplicates { files, found: Vec::new() };
    kinds::visit(&mut duplicates);
    duplicates.found
}

struct Replace<'a> {
    inputs: &'a mut Inputs,
    files: &'a [Arc<Inputs>],
    change: Change,
}

impl Replace<'_> {
    /// Replaces the objects of a kind. `next` returns an object in the place of another one, or `None` if that stays.
    fn list<K: Watched>(&mut self, row: &Row<K>, next: impl Fn(&Shared<K>, &Shared<K>) -> Option<Shared<K>>) {
        let mut wanted: BTreeMap<&Key, &Shared<K>> = BTreeMap::new();
        for file in self.files {
            wanted.extend((row.objects)(file));
        }
        let list: &mut Objects<K> = (row.objects_mut)(self.inputs);
        let gone: Vec<Key> = list.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        for key in &gone {
            list.remove(key);
            self.change = Change::Semantic;
        }
        for (key, object) in wanted {
            let replacement = match list.get(key) {
                Some(present) => next(present, object),
                None => Some(object.clone()),
            };
            if let Some(replacement) = replacement {
                list.insert(key.clone(), replacement);
                self.change = Change::Semantic;
            }
        }
    }
}

impl Visitor for Replace<'_> {
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        self.list(row, |present, object| (present != object).then(|| object.clone()));
    }

    fn custom<Spec: Kind>(&mut self, row: &Row<Object<Spec>>, _: References<Spec>) {
        self.list(row, |present, object| {
            (object.compare(present) == Change::Semantic).then(|| {
                let status = present.status.clone().or_else(|| object.status.clone());
                Object { status, ..Object::clone(object) }.into()
            })
        });
    }
}

struct Duplicates<'a> {
    files: &'a [Arc<Inputs>],
    found: Vec<(&'static str, Key, Vec<usize>)>,
}

impl Visitor for Duplicates<'_> {
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        let mut holders: BTreeMap<&Key, Vec<usize>> = BTreeMap::new();
        for (position, file) in self.files.iter().enumerate() {
            for key in (row.objects)(file).keys() {
                holders.entry(key).or_default().push(position);
            }
        }
        let several = holders.into_iter().filter(|(_, positions)| positions.len() > 1);
        self.found.extend(several.map(|(key, positions)| (row.name, key.clone(), positions)));
    }
}
