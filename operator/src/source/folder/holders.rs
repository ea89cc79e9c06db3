//! Knows which files have which objects, and decides which file counts for each.
//!
//! Kept by `reader`, at the cost of the objects of the files that change. Of two files with an object, the one whose name
//! is later counts. Knows nothing of the objects but their names.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    inputs::{Inputs, Key},
    kinds::{self, Row, Visitor, Watched},
};

/// Kind and name of an object.
pub(super) type Name = (&'static str, Key);

/// The files of each object.
#[derive(Debug, Default)]
pub(super) struct Holders {
    files: BTreeMap<Name, BTreeSet<PathBuf>>,
    /// Objects that several files have.
    several: BTreeSet<Name>,
}

impl Holders {
    /// Replaces the objects of a file; returns the names of those that it had or has.
    pub fn replace(
        &mut self,
        path: &Path,
        before: Option<&Inputs>,
        after: Option<&Inputs>,
    ) -> BTreeSet<Name> {
        let (before, after) = (names(before), names(after));
        for name in before.difference(&after) {
            if let Some(files) = self.files.get_mut(name) {
                files.remove(path);
                if files.is_empty() {
                    self.files.remove(name);
                }
            }
        }
        for name in after.difference(&before) {
            self.files.entry(name.clone()).or_default().insert(path.to_owned());
        }
        let all: BTreeSet<Name> = before.union(&after).cloned().collect();
        for name in &all {
            if self.files.get(name).is_some_and(|files| files.len() > 1) {
                self.several.insert(name.clone());
            } else {
                self.several.remove(name);
            }
        }
        all
    }

    /// Returns the file that counts for an object.
    pub fn file(&self, name: &Name) -> Option<&Path> {
        self.files.get(name)?.last().map(PathBuf::as_path)
    }

    /// Returns the objects that several files have, each with its files in their order.
    pub fn several(&self) -> impl Iterator<Item = (&Name, &BTreeSet<PathBuf>)> {
        self.several.iter().filter_map(|name| Some((name, self.files.get(name)?)))
    }
}

fn names(inputs: Option<&Inputs>) -> BTreeSet<Name> {
    let mut names = Names { inputs, all: BTreeSet::new() };
    kinds::visit(&mut names);
    names.all
}

struct Names<'a> {
    inputs: Option<&'a Inputs>,
    all: BTreeSet<Name>,
}

impl Visitor for Names<'_> {
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        let keys = self.inputs.into_iter().flat_map(|inputs| (row.objects)(inputs).keys());
        self.all.extend(keys.map(|key| (row.name, key.clone())));
    }
}
