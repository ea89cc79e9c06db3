//! Names and versions as numbers, and what each version of a resource refers to.
//!
//! Used by `sidecar`: ten thousand proxies that hold the same hundred names cost ten thousand times a hundred small
//! numbers. Nothing is ever forgotten; a run ends before that matters.

use std::{collections::HashMap, rc::Rc};

use crate::wire::{Kind, references};

/// A name or a version. 0 is no text.
pub type Id = u32;

/// What a version of a resource makes a proxy ask for.
pub type References = Rc<Vec<(Kind, Id)>>;

/// All texts that were met.
#[derive(Debug)]
pub struct Names {
    ids: HashMap<Rc<str>, Id>,
    texts: Vec<Rc<str>>,
    references: HashMap<(Kind, Id, Id), References>,
}

impl Default for Names {
    fn default() -> Self {
        let empty: Rc<str> = Rc::from("");
        Self { ids: HashMap::from([(Rc::clone(&empty), 0)]), texts: vec![empty], references: HashMap::new() }
    }
}

impl Names {
    /// The number of a text. What is no UTF-8 is no name.
    pub fn id(&mut self, text: &[u8]) -> Id {
        let text = std::str::from_utf8(text).unwrap_or_default();
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = Id::try_from(self.texts.len()).unwrap_or_default();
        let text: Rc<str> = Rc::from(text);
        self.texts.push(Rc::clone(&text));
        self.ids.insert(text, id);
        id
    }

    /// The text of a number.
    pub fn text(&self, id: Id) -> &str {
        self.texts.get(usize::try_from(id).unwrap_or_default()).map_or("", AsRef::as_ref)
    }

    /// What a resource refers to; looked for in `body` once for each version.
    pub fn references(&mut self, kind: Kind, name: Id, version: Id, body: &[u8]) -> References {
        if let Some(known) = self.references.get(&(kind, name, version)) {
            return Rc::clone(known);
        }
        let own = self.text(name).as_bytes().to_vec();
        let found = references(kind, &own, body);
        let found = Rc::new(found.into_iter().map(|(kind, name)| (kind, self.id(name))).collect());
        self.references.insert((kind, name, version), Rc::clone(&found));
        found
    }
}
