//! Puts the objects of all files into the inputs, at the cost of a comparison for each that is the same.
//!
//! Used by `folder` as the edit that it sends. An object that did not change keeps its place in memory and its status,
//! so that lowering and status do nothing for it. Judges no object.

use std::{collections::BTreeMap, sync::Arc};

use smidge_crds::object::{Kind, Object};

use super::LIST;
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
    /// Replaces the objects of a kind. `next` returns the object to keep in the place of the present one, if there is one,
    /// or `None` if that stays.
    fn list<K: Watched>(
        &mut self,
        row: &Row<K>,
        next: impl Fn(Option<&Shared<K>>, &Shared<K>) -> Option<Shared<K>>,
    ) {
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
            if let Some(replacement) = next(list.get(key), object) {
                list.insert(key.clone(), replacement);
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
