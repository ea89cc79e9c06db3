//! Turns the texts that a file had, one after another, into the objects in effect and the findings about the file.
//!
//! Used by `reader`. A text that cannot be read in full takes nothing away: the objects of the last one that could be
//! stay in effect. Does no I/O and judges no object.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::{
    documents::{self, Source, Unreadable},
    finding::{Finding, ObjectRef, Reason},
    inputs::Inputs,
};

/// Maximum number of findings about one file.
const REPORTED: usize = 20;

/// SHA-256 of a text.
pub(super) type Digest = [u8; 32];

/// State of one file.
#[derive(Debug, Clone)]
pub(super) struct File {
    name: String,
    namespace: String,
    /// The text that was looked at last; `None` if it could not be read at all.
    seen: Option<Digest>,
    effective: Option<Effective>,
    problems: Vec<Finding>,
}

/// Objects of the last text that could be read.
#[derive(Debug, Clone)]
struct Effective {
    digest: Digest,
    inputs: Arc<Inputs>,
    objects: usize,
    findings: Vec<Finding>,
}

impl File {
    /// Creates the state of a file that was not read yet. Objects that name no namespace are in `namespace`.
    pub fn new(name: String, namespace: String) -> Self {
        Self { name, namespace, seen: None, effective: None, problems: Vec::new() }
    }

    /// Takes the present content of the file. Returns true if anything has changed.
    pub fn take(&mut self, content: &[u8]) -> bool {
        let digest: Digest = Sha256::digest(content).into();
        if self.seen == Some(digest) {
            return false;
        }
        self.seen = Some(digest);
        let Ok(text) = std::str::from_utf8(content) else {
            self.problems = vec![self.problem("is not UTF-8 text")];
            return true;
        };
        let source = Source { name: self.name.clone(), text: text.to_owned() };
        let offline = documents::objects_within(&source, &self.namespace);
        let had_objects = self.effective.as_ref().is_some_and(|before| before.objects > 0);
        // A writer that was stopped, or a disk that is full, leaves an empty file behind.
        let is_emptied = had_objects && offline.objects == 0 && offline.unreadable.is_empty();
        if is_emptied {
            let emptied = self.problem("holds no Kubernetes object any more");
            self.problems = vec![emptied.hint("remove the file to remove its objects")];
        } else {
            self.problems = offline.unreadable.iter().take(REPORTED).map(|it| self.unreadable(it)).collect();
        }
        if is_emptied || (had_objects && !offline.unreadable.is_empty()) {
            return true;
        }
        self.effective = Some(Effective {
            digest,
            inputs: Arc::new(offline.inputs),
            objects: offline.objects,
            findings: offline.findings,
        });
        true
    }

    /// Records that the file cannot be read. Returns true if anything has changed.
    pub fn fail(&mut self, why: &str) -> bool {
        let problems = vec![self.problem(&format!("cannot be read: {why}"))];
        let changed = self.problems != problems;
        self.seen = None;
        self.problems = problems;
        changed
    }

    /// The objects in effect.
    pub fn inputs(&self) -> Option<&Arc<Inputs>> {
        self.effective.as_ref().map(|it| &it.inputs)
    }

    /// Number of objects in effect.
    pub fn objects(&self) -> usize {
        self.effective.as_ref().map_or(0, |it| it.objects)
    }

    /// Digest of the text in effect.
    pub fn digest(&self) -> Option<&Digest> {
        self.effective.as_ref().map(|it| &it.digest)
    }

    /// Findings about the file and about objects that only reading finds.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let of_objects = self.effective.iter().flat_map(|it| &it.findings);
        self.problems.iter().chain(of_objects)
    }

    /// Returns a finding about this file.
    pub fn problem(&self, what: &str) -> Finding {
        problem(&self.name, self.consequence(), what)
    }

    fn unreadable(&self, unreadable: &Unreadable) -> Finding {
        let Unreadable { document, field, message, .. } = unreadable;
        let document = document.map(|number| format!("document {number}"));
        let place: Vec<String> = document.into_iter().chain(field.clone()).collect();
        let finding = self.problem(message);
        if place.is_empty() { finding } else { finding.at(place.join(", ")) }
    }

    fn consequence(&self) -> &'static str {
        if self.objects() > 0 {
            "the objects that were last read from the file stay in effect"
        } else {
            "it has no effect"
        }
    }
}

/// Returns a finding about the file or folder `name`.
pub(super) fn problem(name: &str, consequence: &str, what: &str) -> Finding {
    let object = ObjectRef::new("File", "", name);
    Finding::new(object, Reason::FileNotRead, format!("{what}; {consequence}"))
}
