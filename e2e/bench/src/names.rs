//! Interns names and versions as numbers, with the references of each version of a resource.
//!
//! Used by `sidecar`: ten thousand proxies that hold the same hundred names cost ten thousand times a hundred small
//! numbers. Nothing is ever removed; a run ends before that matters.

use std::{collections::HashMap, rc::Rc};

use crate::wire::{Kind, references};

/// Name or version. 0 is no text.
pub type Id = u32;

/// Resources to which a version of a resource makes a proxy subscribe.
pub type References = Rc<Vec<(Kind, Id)>>;

/// All texts so far.
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
    /// Returns the number of a text. Bytes that are not UTF-8 are the empty text.
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

    /// Returns the text of a number.
    pub fn text(&self, id: Id) -> &str {
        self.texts.get(usize::try_from(id).unwrap_or_default()).map_or("", AsRef::as_ref)
    }

    /// Returns the references of a resource; reads `body` once for each version.
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
